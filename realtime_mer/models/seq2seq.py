"""The published sequence-to-sequence models, and the way a model of segments runs on a stream."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from realtime_mer.models.architecture import (
    HIDDEN_UNITS,
    N_OUTPUTS,
    Architecture,
    Shapes,
    Weights,
    dense,
    dense_shapes,
    gru_step,
    require_positive,
    sigmoid,
    softmax,
)
from realtime_mer.types import FloatArray

# The published segments: 8 frames, one every 0.5 s.
SEGMENT_FRAMES = 8


class SegmentState(NamedTuple):
    """What a stream leaves behind for its next segment.

    frames: the stream's last frames, oldest first, shape (count, n_features). The count is 0 before the first frame,
        grows by one with each, and stays at segment_frames - 1.
    """

    frames: FloatArray


@dataclass(frozen=True)
class SegmentArchitecture(Architecture):
    """A model that maps a segment of frames to as many predictions, on a stream.

    A frame's prediction is the last output for the segment that ends with this frame: the frame and up to
    `segment_frames - 1` before it. At a stream's start the segment really is shorter; nothing is padded.
    """

    n_hidden: int = HIDDEN_UNITS
    segment_frames: int = SEGMENT_FRAMES

    def __post_init__(self) -> None:
        require_positive(n_features=self.n_features, n_hidden=self.n_hidden, segment_frames=self.segment_frames)

    def initial_state(self) -> SegmentState:
        return SegmentState(np.zeros((0, self.n_features), dtype=np.float32))

    def step(self, weights: Weights, frame: FloatArray, state: SegmentState) -> tuple[FloatArray, SegmentState]:
        segment = np.concatenate([state.frames, frame[np.newaxis]])
        # Counted from the front: a slice from -(segment_frames - 1) would keep everything where that is 0.
        first_kept = max(0, len(segment) - (self.segment_frames - 1))
        return self.last_output(weights, segment), SegmentState(segment[first_kept:])

    @abstractmethod
    def last_output(self, weights: Weights, segment: FloatArray) -> FloatArray:
        """The last prediction for a segment. segment: (frames, n_features), at least one frame. Returns (2,)."""


@dataclass(frozen=True)
class Seq2SeqArchitecture(SegmentArchitecture):
    """An LSTM encoder whose last state an LSTM decoder unfolds into one prediction per frame, with a dense tanh output.

    The decoder starts from the encoder's last hidden and cell state; the last hidden state is its input at every step.
    """

    def shapes(self) -> Shapes:
        yield from _cell_shapes("encoder", 4, self.n_features, self.n_hidden)
        yield from _cell_shapes("decoder", 4, self.n_hidden, self.n_hidden)
        yield from dense_shapes("output", self.n_hidden, N_OUTPUTS)

    def last_output(self, weights: Weights, segment: FloatArray) -> FloatArray:
        hidden = cell = np.zeros(self.n_hidden, dtype=np.float32)
        encoder, decoder = _cell(weights, "encoder"), _cell(weights, "decoder")
        for from_input in encoder.from_input(segment):
            hidden, cell = _lstm_step(from_input, encoder.from_hidden(hidden), cell)
        from_context = decoder.from_input(hidden)
        for _ in segment:
            hidden, cell = _lstm_step(from_context, decoder.from_hidden(hidden), cell)
        return np.tanh(dense(weights, "output", hidden))


@dataclass(frozen=True)
class Seq2SeqAttentionArchitecture(SegmentArchitecture):
    """A GRU encoder and a GRU decoder that attends to the encoder's outputs anew at every step (additive attention).

    The decoder starts from the encoder's last state s_0 and a zero prediction y_0. At step i the attended context c_i
    and the previous prediction are the cell's input: s_i = GRU([c_i; y_{i-1}], s_{i-1}), y_i = tanh(V s_i + b).
    """

    def shapes(self) -> Shapes:
        yield from _cell_shapes("encoder", 3, self.n_features, self.n_hidden)
        yield from _cell_shapes("decoder", 3, self.n_hidden + N_OUTPUTS, self.n_hidden, suffix="")
        yield "attention.query_weight.weight", (self.n_hidden, self.n_hidden)
        yield "attention.key_weight.weight", (self.n_hidden, self.n_hidden)
        yield "attention.score_weight.weight", (1, self.n_hidden)
        yield from dense_shapes("output", self.n_hidden, N_OUTPUTS)

    def last_output(self, weights: Weights, segment: FloatArray) -> FloatArray:
        encoder, decoder = _cell(weights, "encoder"), _cell(weights, "decoder", suffix="")
        hidden: FloatArray = np.zeros(self.n_hidden, dtype=np.float32)
        outputs = []
        for from_input in encoder.from_input(segment):
            hidden = gru_step(from_input, encoder.from_hidden(hidden), hidden)
            outputs.append(hidden)
        memory = np.stack(outputs)
        keys = memory @ weights["attention.key_weight.weight"].T
        prediction = np.zeros(N_OUTPUTS, dtype=np.float32)
        for _ in segment:
            query = weights["attention.query_weight.weight"] @ hidden
            attention = softmax(np.tanh(query + keys) @ weights["attention.score_weight.weight"][0], axis=0)
            inputs = np.concatenate([attention @ memory, prediction])
            hidden = gru_step(decoder.from_input(inputs), decoder.from_hidden(hidden), hidden)
            prediction = np.tanh(dense(weights, "output", hidden))
        return prediction


class _Cell(NamedTuple):
    """A recurrent cell's weights. As in torch, the gates are below one another."""

    weight_ih: FloatArray
    weight_hh: FloatArray
    bias_ih: FloatArray
    bias_hh: FloatArray

    def from_input(self, rows: FloatArray) -> FloatArray:
        result: FloatArray = rows @ self.weight_ih.T + self.bias_ih
        return result

    def from_hidden(self, hidden: FloatArray) -> FloatArray:
        result: FloatArray = self.weight_hh @ hidden + self.bias_hh
        return result


def _cell(weights: Weights, name: str, suffix: str = "_l0") -> _Cell:
    return _Cell(*(weights[f"{name}.{part}{suffix}"] for part in _Cell._fields))


def _cell_shapes(name: str, n_gates: int, n_in: int, n_hidden: int, suffix: str = "_l0") -> Shapes:
    n_rows = n_gates * n_hidden
    cell_shapes = ((n_rows, n_in), (n_rows, n_hidden), (n_rows,), (n_rows,))
    for part, shape in zip(_Cell._fields, cell_shapes, strict=True):
        yield f"{name}.{part}{suffix}", shape


def _lstm_step(from_input: FloatArray, from_hidden: FloatArray, cell: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The next hidden and cell state."""
    entry, forget, new, exit_ = np.split(from_input + from_hidden, 4)
    cell = sigmoid(forget) * cell + sigmoid(entry) * np.tanh(new)
    return sigmoid(exit_) * np.tanh(cell), cell
