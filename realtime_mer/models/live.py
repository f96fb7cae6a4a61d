"""The model that runs on stage: an attention decoder whose encoder and decoder states are carried from frame to frame.

One step per frame, nothing ahead, no window to refill: at frame t the encoder takes in the frame, the decoder attends
to the encoder's last outputs (the memory) and to its own state, and its prediction is fed back at frame t + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from realtime_mer.models.architecture import (
    N_OUTPUTS,
    Architecture,
    Shapes,
    Weights,
    gru_step,
    require_dropouts,
    require_positive,
    softmax,
)
from realtime_mer.types import FloatArray

# How many encoder outputs the decoder attends to: 8 frames, as the published segments have.
MEMORY_FRAMES = 8


class LiveState(NamedTuple):
    """What is carried from one frame to the next, for `members` members of the ensemble.

    heard: frames so far, up to the memory of the running statistics.
    mean, square: (n_running,), running mean of the running features and of their squares.
    encoder: (members, n_hidden).
    memory: (members, up to 7, n_embedding + n_hidden), what the decoder attends to besides the newest frame.
    keys: (members, up to 7, n_attention), U m for every m of the memory.
    decoder: (members, n_hidden). prediction: (members, 2).
    attention: (up to 8,), what each frame of the memory counted in the last prediction, oldest first: the members'
        mean, of sum 1.
    """

    heard: int
    mean: FloatArray
    square: FloatArray
    encoder: FloatArray
    memory: FloatArray
    keys: FloatArray
    decoder: FloatArray
    prediction: FloatArray
    attention: FloatArray


@dataclass(frozen=True)
class LiveArchitecture(Architecture):
    """The streaming attention decoder: a small ensemble whose predictions are averaged, and a linear readout.

    A frame's features x and, for the first n_running of them, their running mean and deviation (leaky beyond
    running_memory_frames) are embedded, z = relu(W x); a GRU g carries on what was; m = [z; g] enters the memory.
    The decoder attends to the last memory_frames of m (fewer at the start) by its state s (Bahdanau et al. 2015), and
    s' = GRU([c; y], s), y' = tanh(V [c; s'] + b), with c the attended context and y the previous prediction.

    A linear readout of the same inputs (ridge regression, fitted beside the network) has linear_share of the result:
    on so few songs the mean of the two scores better than either (results/exploration.md).

    input_dropout, embedding_dropout, state_dropout: used in training only.
    """

    n_running: int = 0
    running_memory_frames: int = 20
    n_members: int = 4
    n_embedding: int = 64
    n_hidden: int = 16
    n_attention: int = 32
    memory_frames: int = MEMORY_FRAMES
    input_dropout: float = 0.5
    embedding_dropout: float = 0.3
    state_dropout: float = 0.5
    linear_share: float = 0.5

    def __post_init__(self) -> None:
        require_positive(
            n_features=self.n_features,
            running_memory_frames=self.running_memory_frames,
            n_members=self.n_members,
            n_embedding=self.n_embedding,
            n_hidden=self.n_hidden,
            n_attention=self.n_attention,
            memory_frames=self.memory_frames,
        )
        if not isinstance(self.n_running, int) or not 0 <= self.n_running <= self.n_features:
            raise ValueError(
                f"n_running must be a whole number from 0 to n_features ({self.n_features}), not {self.n_running}."
            )
        require_dropouts(
            input_dropout=self.input_dropout,
            embedding_dropout=self.embedding_dropout,
            state_dropout=self.state_dropout,
        )
        if not 0.0 <= self.linear_share <= 1.0:
            raise ValueError(f"linear_share must lie between 0 and 1, not {self.linear_share}.")

    @property
    def n_inputs(self) -> int:
        """The features, and the running means and deviations."""
        return self.n_features + 2 * self.n_running

    @property
    def n_memory(self) -> int:
        """The numbers that a frame leaves in the memory."""
        return self.n_embedding + self.n_hidden

    def shapes(self) -> Shapes:
        yield from self._layer("embedding", self.n_inputs, self.n_embedding)
        yield from self._layer("encoder.from_input", self.n_embedding, 3 * self.n_hidden)
        yield from self._layer("encoder.from_hidden", self.n_hidden, 3 * self.n_hidden)
        yield from self._layer("query", self.n_hidden, self.n_attention, bias=False)
        yield from self._layer("key", self.n_memory, self.n_attention)
        yield from self._layer("score", self.n_attention, 1, bias=False)
        yield from self._layer("decoder.from_input", self.n_memory + N_OUTPUTS, 3 * self.n_hidden)
        yield from self._layer("decoder.from_hidden", self.n_hidden, 3 * self.n_hidden)
        yield from self._layer("output", self.n_memory + self.n_hidden, N_OUTPUTS)
        yield "linear_weight", (self.n_inputs, N_OUTPUTS)
        yield "linear_bias", (N_OUTPUTS,)

    def initial_state(self) -> LiveState:
        """Nothing heard, an empty memory, zeros for the states and the previous prediction."""

        def zeros(*shape: int) -> FloatArray:
            return np.zeros(shape, dtype=np.float32)

        return LiveState(
            heard=0,
            mean=zeros(self.n_running),
            square=zeros(self.n_running),
            encoder=zeros(self.n_members, self.n_hidden),
            memory=zeros(self.n_members, 0, self.n_memory),
            keys=zeros(self.n_members, 0, self.n_attention),
            decoder=zeros(self.n_members, self.n_hidden),
            prediction=zeros(self.n_members, N_OUTPUTS),
            attention=zeros(0),
        )

    def step(self, weights: Weights, frame: FloatArray, state: LiveState) -> tuple[FloatArray, LiveState]:
        inputs, state = self._with_running(frame, state)
        embedded = np.maximum(_dense(weights, "embedding", inputs), 0.0)
        encoder = _gru(weights, "encoder", embedded, state.encoder)
        newest = np.concatenate([embedded, encoder], axis=1)
        # Not full at the start: the memory then really is shorter, nothing is padded.
        memory = np.concatenate([state.memory, newest[:, np.newaxis]], axis=1)
        keys = np.concatenate([state.keys, _dense(weights, "key", newest)[:, np.newaxis]], axis=1)
        match = np.tanh(_matmul(weights, "query", state.decoder)[:, np.newaxis] + keys)
        attention = softmax(match @ weights["score.weight"], axis=1)
        context = (attention * memory).sum(axis=1)
        decoder = _gru(weights, "decoder", np.concatenate([context, state.prediction], axis=1), state.decoder)
        prediction = np.tanh(_dense(weights, "output", np.concatenate([context, decoder], axis=1)))
        oldest_kept = max(0, memory.shape[1] - (self.memory_frames - 1))
        state = state._replace(
            encoder=encoder,
            memory=memory[:, oldest_kept:],
            keys=keys[:, oldest_kept:],
            decoder=decoder,
            prediction=prediction,
            attention=attention[..., 0].mean(axis=0),
        )
        linear = np.clip(inputs @ weights["linear_weight"] + weights["linear_bias"], -1.0, 1.0)
        return (1.0 - self.linear_share) * prediction.mean(axis=0) + self.linear_share * linear, state

    def _layer(self, name: str, n_in: int, n_out: int, *, bias: bool = True) -> Shapes:
        yield f"{name}.weight", (self.n_members, n_in, n_out)
        if bias:
            yield f"{name}.bias", (self.n_members, 1, n_out)

    def _with_running(self, frame: FloatArray, state: LiveState) -> tuple[FloatArray, LiveState]:
        """The frame with the running mean and deviation of its first n_running features, frame included."""
        heard = min(state.heard + 1, self.running_memory_frames)
        running = frame[: self.n_running]
        mean = state.mean + (running - state.mean) / np.float32(heard)
        square = state.square + (np.square(running) - state.square) / np.float32(heard)
        deviation = np.sqrt(np.maximum(square - np.square(mean), 0.0) + 1e-6)
        return np.concatenate([frame, mean, deviation]), state._replace(heard=heard, mean=mean, square=square)


def _matmul(weights: Weights, name: str, rows: FloatArray) -> FloatArray:
    """Every member's matrix product: (members, n_in), or (n_in,) for all of them, -> (members, n_out)."""
    result: FloatArray = (rows[..., np.newaxis, :] @ weights[f"{name}.weight"])[..., 0, :]
    return result


def _dense(weights: Weights, name: str, rows: FloatArray) -> FloatArray:
    """The same with a bias."""
    result: FloatArray = _matmul(weights, name, rows) + weights[f"{name}.bias"][:, 0]
    return result


def _gru(weights: Weights, name: str, rows: FloatArray, hidden: FloatArray) -> FloatArray:
    """Every member's gated recurrent unit. rows: (members, n_in); hidden: (members, n_hidden), as the result."""
    return gru_step(_dense(weights, f"{name}.from_input", rows), _dense(weights, f"{name}.from_hidden", hidden), hidden)
