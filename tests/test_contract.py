"""The contract helper passes sound stages and catches each way of breaking the contract."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from contract import FRAME_CHUNKS, SAMPLE_CHUNKS, Outputs, verify_contract, verify_model
from torch import Tensor, nn

from realtime_mer.types import FeatureFrame

Samples = npt.NDArray[np.float32]
CHUNKS = (1, 44, 7, 102)


@pytest.fixture(scope="module")
def signal() -> Samples:
    return np.random.default_rng(0).standard_normal(600).astype(np.float32)


class Smoother:
    """A one-pole low-pass: the sound example that the broken stages below are variants of."""

    rate_hz: Any = 44_100.0
    latency_s: Any = 0.0
    receptive_field_s: Any = math.inf

    def __init__(self) -> None:
        self.level = np.float32(0.0)

    def step(self, chunk: Samples, /) -> Outputs:
        smoothed = np.empty_like(chunk)
        for i, sample in enumerate(chunk):
            self.level += np.float32(0.25) * (sample - self.level)
            smoothed[i] = self.level
        return smoothed

    def flush(self) -> Outputs:
        return np.empty(0, np.float32)


class Gain(Smoother):
    receptive_field_s = 0.0

    def step(self, chunk: Samples, /) -> Outputs:
        return chunk * np.float32(0.5)


class PassThrough(Smoother):
    receptive_field_s = 0.0

    def step(self, chunk: Samples, /) -> Outputs:
        return chunk


class Framer(Smoother):
    """Frames of 100 samples every 50, the last one short: outputs are dataclasses, and the flush has some."""

    def __init__(self) -> None:
        self.waiting = np.empty(0, np.float32)
        self.index = 0

    def step(self, chunk: Samples, /) -> Outputs:
        self.waiting = np.concatenate([self.waiting, chunk])
        frames = []
        while len(self.waiting) >= 100:
            frames.append(self.frame(self.waiting[:100]))
            self.waiting = self.waiting[50:]
        return frames

    def frame(self, samples: Samples) -> FeatureFrame:
        values = np.array([samples.min(), samples.max()])
        frame = FeatureFrame(self.index, self.index * 0.5, self.index * 0.5 + 1.0, values)
        self.index += 1
        return frame

    def flush(self) -> Outputs:
        return [self.frame(self.waiting)] if len(self.waiting) else []


@pytest.mark.parametrize(("stage", "stateful"), [(Smoother, True), (Framer, True), (Gain, False), (PassThrough, False)])
def test_sound_stages_pass(stage: type[Smoother], stateful: bool, signal: Samples) -> None:
    verify_contract(stage, signal, stateful=stateful, chunks=CHUNKS)


class LooksAhead(Smoother):
    """Each sample's successor, where the chunk has it."""

    def step(self, chunk: Samples, /) -> Outputs:
        return np.append(chunk[1:], chunk[-1]) + super().step(chunk)


class NormalisesByChunk(Smoother):
    def step(self, chunk: Samples, /) -> Outputs:
        smoothed: Samples = np.asarray(super().step(chunk))
        loudest: np.float32 = np.abs(smoothed).max()
        return smoothed / loudest


class ForgetsBetweenChunks(Smoother):
    def step(self, chunk: Samples, /) -> Outputs:
        self.level = np.float32(0.0)
        return super().step(chunk)


class DropsShortChunks(Smoother):
    def step(self, chunk: Samples, /) -> Outputs:
        return super().step(chunk) if len(chunk) > 1 else np.empty(0, np.float32)


class LosesWhatIsLeft(Framer):
    """Keeps the rest of a chunk only when it is short."""

    def step(self, chunk: Samples, /) -> Outputs:
        frames = super().step(chunk)
        if len(chunk) >= 44:
            self.waiting = self.waiting[:0]
        return frames


class LeaksOverReset(Smoother):
    """State on the class, which a new object does not reset."""

    levels: ClassVar[list[np.float32]] = [np.float32(0.0)]

    def step(self, chunk: Samples, /) -> Outputs:
        self.level = self.levels[0]
        smoothed = super().step(chunk)
        self.levels[0] = self.level
        return smoothed


class LeaksWhenAbandoned(LeaksOverReset):
    """The same, but tidied up at the end of a stream; only a stream that is broken off leaks."""

    def flush(self) -> Outputs:
        self.levels[0] = np.float32(0.0)
        return super().flush()


class KeepsTheCallersMemory(Framer):
    """Holds a view of a chunk until the next one comes."""

    def step(self, chunk: Samples, /) -> Outputs:
        if len(self.waiting) == 0 and len(chunk) < 100:
            self.waiting = chunk
            return []
        return super().step(chunk)


class ReusesItsOutput(Smoother):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = np.empty(2000, np.float32)

    def step(self, chunk: Samples, /) -> Outputs:
        self.buffer[: len(chunk)] = np.asarray(super().step(chunk))
        return self.buffer[: len(chunk)]


class WritesIntoItsInput(Smoother):
    def step(self, chunk: Samples, /) -> Outputs:
        chunk *= np.float32(0.5)
        return super().step(chunk)


class DependsOnEarlierRuns(Smoother):
    """A little different each time: a counter where a seed should be."""

    runs = 0

    def __init__(self) -> None:
        super().__init__()
        DependsOnEarlierRuns.runs += 1
        self.level = np.float32(1e-6 * self.runs)


class Silent(Smoother):
    def step(self, chunk: Samples, /) -> Outputs:
        return []


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        (LooksAhead, "one element at a time"),
        (NormalisesByChunk, "one element at a time"),
        (ForgetsBetweenChunks, "one element at a time"),
        (DropsShortChunks, "one element at a time"),
        (LosesWhatIsLeft, "one element at a time"),
        (LeaksOverReset, "after a reset"),
        (LeaksWhenAbandoned, "after a reset"),
        (DependsOnEarlierRuns, "after a reset"),
        (KeepsTheCallersMemory, "memory is reused"),
        (ReusesItsOutput, "one element at a time"),
        (WritesIntoItsInput, "wrote into its input"),
        (Gain, "stateless"),
        (Silent, "no output at all"),
    ],
)
def test_broken_stages_are_caught(stage: type[Smoother], complaint: str, signal: Samples) -> None:
    with pytest.raises(AssertionError, match=complaint):
        verify_contract(stage, signal, chunks=CHUNKS)


@pytest.mark.parametrize("stage", [LooksAhead, NormalisesByChunk, ForgetsBetweenChunks, DropsShortChunks])
def test_ragged_chunks_catch_what_single_elements_are_not_asked_to(stage: type[Smoother], signal: Samples) -> None:
    with pytest.raises(AssertionError, match="ragged chunks"):
        verify_contract(stage, signal, chunks=CHUNKS, one_by_one=False)


def test_a_stage_declared_stateless_must_be(signal: Samples) -> None:
    with pytest.raises(AssertionError, match="declared stateless"):
        verify_contract(Smoother, signal, stateful=False, chunks=CHUNKS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_hz", None),
        ("rate_hz", 0.0),
        ("rate_hz", math.inf),
        ("latency_s", -0.1),
        ("latency_s", math.inf),
        ("latency_s", "none"),
        ("receptive_field_s", math.nan),
        ("receptive_field_s", None),
    ],
)
def test_a_stage_must_declare_itself(name: str, value: object, signal: Samples) -> None:
    stage = type("Undeclared", (Smoother,), {name: value})
    with pytest.raises(AssertionError, match=name):
        verify_contract(stage, signal, chunks=CHUNKS)


def test_a_difference_of_one_bit_counts_unless_a_tolerance_is_asked_for(signal: Samples) -> None:
    class LastBit(Smoother):
        def step(self, chunk: Samples, /) -> Outputs:
            smoothed = np.asarray(super().step(chunk))
            return np.nextafter(smoothed, np.float32(9.0)) if len(chunk) == 7 else smoothed

    with pytest.raises(AssertionError, match="ragged chunks"):
        verify_contract(LastBit, signal, chunks=CHUNKS)
    verify_contract(LastBit, signal, chunks=CHUNKS, tolerance=1e-6)
    with pytest.raises(ValueError, match="tolerance"):
        verify_contract(LastBit, signal, chunks=CHUNKS, tolerance=1e-3)


def test_a_stage_is_closed_when_it_is_done_with(signal: Samples) -> None:
    open_stages = set()

    class Closing(Smoother):
        def __init__(self) -> None:
            super().__init__()
            open_stages.add(self)

        def close(self) -> None:
            open_stages.remove(self)

    verify_contract(Closing, signal, chunks=CHUNKS)
    assert not open_stages


def test_a_signal_that_proves_nothing_is_refused(signal: Samples) -> None:
    with pytest.raises(ValueError, match="too short"):
        verify_contract(Smoother, signal, chunks=SAMPLE_CHUNKS)
    with pytest.raises(ValueError, match="floating-point"):
        verify_contract(Smoother, np.arange(600), chunks=CHUNKS)


class SumState(NamedTuple):
    total: Tensor


class LeakySum(nn.Module):
    """The smallest model with a memory: the tanh of a decaying sum of the first two features."""

    rate_hz = 2.0
    latency_s = 0.0
    receptive_field_s = math.inf

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    def arguments(self) -> dict[str, Any]:
        return {"n_features": self.n_features}

    def initial_state(self, batch_size: int) -> Any:
        return SumState(torch.zeros(batch_size, 2))

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        total = 0.5 * state.total + frame[:, :2]
        return torch.tanh(total), SumState(total)

    def forward(self, sequence: Tensor) -> Tensor:
        state = self.initial_state(len(sequence))
        predictions = []
        for frame in sequence.unbind(dim=1):
            prediction, state = self.step(frame, state)
            predictions.append(prediction)
        return torch.stack(predictions, dim=1)


class NotCausal(LeakySum):
    def forward(self, sequence: Tensor) -> Tensor:
        return super().forward(sequence - sequence.mean(dim=1, keepdim=True))


class MixesStreams(LeakySum):
    """Standardises over the batch, in `step` and `forward` alike."""

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().step(frame - (frame.mean(dim=0, keepdim=True) if len(frame) > 1 else 0.0), state)


class WritesIntoItsState(LeakySum):
    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        state.total.mul_(0.5).add_(frame[:, :2])
        return torch.tanh(state.total), state


class LooseState(LeakySum):
    """A state that no one can store: a bare tensor."""

    def initial_state(self, batch_size: int) -> Any:
        return torch.zeros(batch_size, 2)

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        total = 0.5 * state + frame[:, :2]
        return torch.tanh(total), total


class Unbounded(LeakySum):
    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        prediction, state = super().step(frame, state)
        return 2.0 * prediction, state


class UnderstatesItsReach(LeakySum):
    receptive_field_s = 1.5


class OverstatesItsReach(LeakySum):
    receptive_field_s = 4.5

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        return torch.tanh(state.total + frame[:, :2]), SumState(frame[:, :2].clone())


@pytest.fixture(scope="module")
def sequence() -> Tensor:
    return torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0))


def test_a_sound_model_passes(sequence: Tensor) -> None:
    verify_model(LeakySum(4), sequence)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (NotCausal, "step by step"),
        (MixesStreams, "one stream of the batch"),
        (WritesIntoItsState, "must not write"),
        (LooseState, "NamedTuple"),
        (Unbounded, r"\[-1, 1\]"),
        (UnderstatesItsReach, "before the receptive field"),
        (OverstatesItsReach, "is not used"),
    ],
)
def test_broken_models_are_caught(model: type[LeakySum], complaint: str, sequence: Tensor) -> None:
    with pytest.raises(AssertionError, match=complaint):
        verify_model(model(4), sequence)


def test_a_sequence_that_proves_nothing_is_refused(sequence: Tensor) -> None:
    with pytest.raises(ValueError, match="two streams"):
        verify_model(LeakySum(4), sequence[:1])
    with pytest.raises(ValueError, match="too short"):
        verify_model(LeakySum(4), sequence[:, : sum(FRAME_CHUNKS) - 1])
