"""The streaming contract, asserted of any stage: how a stream is cut into pieces must not be heard in what comes out.

Seen first in google/sequence-layers (`verify_contract`) and CPJKU/madmom (`test_process_lstm`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from realtime_mer.features.engine import FRAME_S, HOP_S
from realtime_mer.live.session import Session
from realtime_mer.models.architecture import Architecture, Weights
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.types import FloatArray
from realtime_mer.updates import Update
from train.models import StreamingModel

Float64Array = npt.NDArray[np.float64]
# What a stage gives out: an array whose first axis is time, or a sequence of rows, each a number, an array, a tuple, or
# a dataclass of such (FeatureFrame, Prediction). Sound is an array of samples: blocks would show how it was cut.
Outputs = npt.NDArray[Any] | Sequence[Any]

SAMPLE_CHUNKS = (1, 441, 1024, 7, 4410, 997, 2, 5003)
FRAME_CHUNKS = (1, 3, 2, 7, 5)
# Float32 arithmetic in another order (a matrix product over a batch or over one row) differs this much, and no more.
FLOAT_TOLERANCE = 1e-6


class Stage(Protocol):
    """A stage for the contract; most are wrapped in a few lines by their test. If it has `close()`, that is called."""

    def step(self, chunk: Any, /) -> Outputs:
        """The outputs that this chunk completes; the chunk's first axis is time."""
        ...

    def flush(self) -> Outputs:
        """The outputs still to come at the end of the stream. No step follows."""
        ...


def verify_contract(
    make_stage: Callable[[], Stage],
    signal: npt.NDArray[Any],
    *,
    stateful: bool = True,
    chunks: Sequence[int] = SAMPLE_CHUNKS,
    one_by_one: bool = True,
) -> None:
    """Asserts that a stage keeps the streaming contract.

    - A fresh stage gives the same outputs for the same signal again, though another was abandoned in mid-stream.
    - The signal one element at a time, and in ragged chunks, gives the outputs of the whole signal at once, to the bit.
    - It changes no input, keeps no reference to one, and does not write over outputs that it has handed out.
    - Without a reset the outputs differ the second time; those of a stage declared stateless are the same.

    make_stage: gives a fresh stage.
    signal: floating-point, first axis time, at least as long as one cycle of `chunks`, and such that the stage's state
        matters to the outputs.
    stateful: False for a stage whose outputs depend on nothing before.
    chunks: sizes of the ragged chunks, used in turn until the signal ends.
    one_by_one: False if a step for every element would take too long; `chunks` has a chunk of one anyway.
    """
    assert len(signal) >= sum(chunks), "the signal is too short"
    stage = make_stage()
    whole = _run(stage, signal, [len(signal)])
    assert len(whole) > 0, "the stage gave no output: a longer signal is needed"

    abandoned = make_stage()
    abandoned.step(signal[: len(signal) // 2].copy())
    _close(abandoned)
    _expect_same("a fresh stage, after a reset", whole, _run(make_stage(), signal, [len(signal)]))

    if one_by_one:
        _expect_same("one element at a time", whole, _run(make_stage(), signal, [1] * len(signal)))
    ragged = list(_ragged_sizes(len(signal), chunks))
    _expect_same("ragged chunks", whole, _run(make_stage(), signal, ragged))
    reused_buffer = _run(make_stage(), signal, ragged, overwrite_chunks=True)
    _expect_same("ragged chunks whose memory is reused after each step", whole, reused_buffer)

    stage = make_stage()
    stage.step(signal.copy())
    again = _run(stage, signal, [len(signal)])
    if not stateful:
        _expect_same("a stage declared stateless, on its second run", whole, again)
    elif _difference(whole, again, 0.0) is None:
        raise AssertionError(
            "Without a reset the outputs are the same the second time: the stage is stateless (declare it), or it "
            "resets itself, or the signal does not bring its state out."
        )


class ModelStage:
    """A model in NumPy as a stage: its elements are scaled feature frames, float32, shape (frames, n_features)."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        self._architecture = architecture
        self._weights = weights
        self._state = architecture.initial_state()

    def step(self, chunk: npt.NDArray[np.float32], /) -> Outputs:
        predictions = []
        for frame in chunk:
            for array in (part for part in self._state if isinstance(part, np.ndarray)):
                array.setflags(write=False)
            prediction, self._state = self._architecture.step(self._weights, frame, self._state)
            assert prediction.dtype == np.float32
            assert prediction.shape == (2,)
            predictions.append(prediction)
        return predictions

    def flush(self) -> Outputs:
        return []


class SessionStage:
    """A session as a stage, the whole way from samples to updates: float32, shape (n_samples, n_channels)."""

    def __init__(self, session: Session, rate_hz: int) -> None:
        self._session = session
        self._rate_hz = rate_hz
        self.close = session.close

    def step(self, chunk: FloatArray, /) -> list[Update]:
        return self._session.process(Capture(on_grid(chunk)[0], self._rate_hz, 0, 0, None))

    def flush(self) -> list[Update]:
        return self._session.end_segment()


def weights_in_numpy(model: StreamingModel) -> Weights:
    """A model's weights, to step it with."""
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def verify_model(
    model: StreamingModel, sequence: Tensor, *, stateful: bool = True, tolerance: float = FLOAT_TOLERANCE
) -> None:
    """Asserts that a model keeps the streaming contract: its steps in NumPy == ragged == forward in torch.

    A model declares receptive_field_s in seconds of sound: 1.0 for one frame, 4.5 for 8 frames of 1.0 s every 0.5 s,
    infinite for a state that is carried on. It is set to evaluation mode.

    sequence: scaled features, float32, shape (batch, frames, n_features), with at least 2 different streams, 18 frames
        (one cycle of FRAME_CHUNKS), and more frames than a finite receptive field has.
    tolerance: between `forward`, which may work on many frames at once, and the steps. Stepping alone is held to the
        bit.
    """
    batch_size, n_frames, _ = sequence.shape
    assert batch_size >= 2
    model.eval()
    architecture = model.architecture
    weights = weights_in_numpy(model)
    assert dict(architecture.shapes()) == {name: array.shape for name, array in weights.items()}
    streams = sequence.numpy()
    verify_contract(lambda: ModelStage(architecture, weights), streams[0], stateful=stateful, chunks=FRAME_CHUNKS)
    stepped = torch.from_numpy(np.stack([ModelStage(architecture, weights).step(stream) for stream in streams]))
    with torch.no_grad():
        whole = model.forward(sequence)
        assert whole.shape == (batch_size, n_frames, 2)
        assert (whole.abs() <= 1.0).all()
        _expect_close("step by step in NumPy, against forward in torch", whole, stepped, tolerance)
        for end in itertools.accumulate(_ragged_sizes(n_frames, FRAME_CHUNKS)):
            _expect_close(f"the first {end} frames alone", whole[:, :end], model.forward(sequence[:, :end]), tolerance)
        _expect_close("one stream of the batch alone", whole[1:2], model.forward(sequence[1:2]), tolerance)
        if math.isfinite(model.receptive_field_s):
            _check_receptive_field(model, sequence, tolerance)


def _check_receptive_field(model: StreamingModel, sequence: Tensor, tolerance: float) -> None:
    n_frames = round((model.receptive_field_s - FRAME_S) / HOP_S) + 1
    oldest_seen = sequence.shape[1] - n_frames
    assert oldest_seen > 0, f"a sequence of more than {n_frames} frames is needed"
    last = model.forward(sequence)[:, -1:]
    changed = sequence.clone()
    changed[:, :oldest_seen] = -changed[:, :oldest_seen]
    _expect_close("other frames before the receptive field", last, model.forward(changed)[:, -1:], tolerance)
    changed[:, oldest_seen] = -changed[:, oldest_seen]
    if torch.allclose(last, model.forward(changed)[:, -1:], rtol=0.0, atol=tolerance):
        raise AssertionError(
            f"The oldest frame of the declared receptive field, {model.receptive_field_s} s, is not used."
        )


def _expect_close(what: str, expected: Tensor, actual: Tensor, tolerance: float) -> None:
    _expect_same(what, expected.double().flatten(0, 1).numpy(), actual.double().flatten(0, 1).numpy(), tolerance)


def _ragged_sizes(length: int, sizes: Sequence[int]) -> Iterator[int]:
    """The sizes in turn, over and over, the last one cut so that they add up to `length`."""
    left = length
    for size in itertools.cycle(sizes):
        if left == 0:
            return
        yield min(size, left)
        left -= min(size, left)


def _run(
    stage: Stage, signal: npt.NDArray[Any], sizes: Sequence[int], *, overwrite_chunks: bool = False
) -> Float64Array:
    """All outputs as rows. They are read only after the stream has ended, as a later step may do; with
    `overwrite_chunks`, at once, since they may be views of a chunk whose memory is about to be reused."""
    outputs: list[Outputs] = []
    start = 0
    for size in sizes:
        original = signal[start : start + size]
        chunk = original.copy()
        given = stage.step(chunk)
        outputs.append(_rows(given) if overwrite_chunks else given)
        assert chunk.tobytes() == original.tobytes(), "the stage wrote into its input, which others may be reading"
        if overwrite_chunks:
            chunk.fill(np.nan)
        start += size
    outputs.append(stage.flush())
    _close(stage)
    parts = [rows for rows in map(_rows, outputs) if len(rows)]
    # Rows of a later step may be longer: a memory had filled up meanwhile.
    width = max((rows.shape[1] for rows in parts), default=0)
    padded = [np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in parts]
    return np.concatenate(padded) if padded else np.empty((0, 0))


def _close(stage: Stage) -> None:
    close = getattr(stage, "close", None)
    if close is not None:
        close()


def _rows(outputs: Outputs) -> Float64Array:
    """Outputs as float64, shape (rows, numbers per row): exact for every float32, and times count like values."""
    if len(outputs) == 0:
        return np.empty((0, 0))
    if isinstance(outputs, np.ndarray):
        return outputs.reshape(len(outputs), -1).astype(np.float64)
    rows = [_row(item) for item in outputs]
    # Rows may grow, as a memory that fills does: each says how long it is before it is filled up with zeros.
    width = max(map(len, rows))
    return np.array([[len(row), *row, *[0.0] * (width - len(row))] for row in rows], dtype=np.float64)


def _row(item: Any) -> Float64Array:
    if dataclasses.is_dataclass(item):
        item = [getattr(item, field.name) for field in dataclasses.fields(item)]
    if isinstance(item, tuple | list):
        return np.concatenate([_row(part) for part in item])
    return np.asarray(item, dtype=np.float64).ravel()


def _expect_same(what: str, expected: Float64Array, actual: Float64Array, tolerance: float = 0.0) -> None:
    difference = _difference(expected, actual, tolerance)
    if difference is not None:
        raise AssertionError(f"Contract broken by {what}: {difference}")


def _difference(expected: Float64Array, actual: Float64Array, tolerance: float) -> str | None:
    """What differs by more than the tolerance (with 0: in any bit), in words; None where nothing does."""
    if expected.shape != actual.shape:
        return f"{actual.shape} outputs instead of {expected.shape}"
    if tolerance == 0.0:
        differs = expected.view(np.uint64) != actual.view(np.uint64)
    else:
        # A NaN is never close, so that it counts as a difference.
        differs = ~(np.abs(expected - actual) <= tolerance)
    if not differs.any():
        return None
    row = int(np.argmax(differs.any(axis=1)))
    largest = np.abs(expected - actual).max()
    return f"from output {row} on: {actual[row]} instead of {expected[row]} (largest difference {largest:.3g})"
