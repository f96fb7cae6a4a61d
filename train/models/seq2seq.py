"""The published sequence-to-sequence model in torch, and the way any model of segments runs on a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from realtime_mer.features.engine import FRAME_S, HOP_S
from realtime_mer.models.architecture import N_OUTPUTS, Architecture
from realtime_mer.models.seq2seq import SegmentArchitecture, Seq2SeqArchitecture


class SlidingSegmentModel(nn.Module, ABC):
    """A SegmentArchitecture to train. A subclass defines `forward_segment`; its arguments are the fields."""

    def __init__(self, architecture: SegmentArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.segment_frames = architecture.segment_frames
        self.output = nn.Linear(architecture.n_hidden, N_OUTPUTS)

    @property
    def receptive_field_s(self) -> float:
        """The stretch of sound that a prediction depends on: from the segment's first frame to its last one's end."""
        return (self.segment_frames - 1) * HOP_S + FRAME_S

    @abstractmethod
    def forward_segment(self, segment: Tensor) -> Tensor:
        """The published protocol: reads the whole segment, then gives a prediction for each of its frames.

        segment: scaled features, shape (batch, frames, n_features), usually `segment_frames` frames, at least one.
        Returns (batch, frames, 2) in [-1, 1]. Not causal within the segment: the first output knows the last frame.
        """

    def forward(self, sequence: Tensor) -> Tensor:
        """What the architecture's steps give for every frame, in one go.

        sequence: scaled features, shape (batch, frames, n_features). Returns (batch, frames, 2) in [-1, 1]; causal.
        """
        batch_size, n_frames, _ = sequence.shape
        n_growing = min(n_frames, self.segment_frames - 1)
        predictions = [sequence.new_zeros(batch_size, 0, N_OUTPUTS)]
        predictions += [self.forward_segment(sequence[:, : k + 1])[:, -1:] for k in range(n_growing)]
        if n_frames >= self.segment_frames:
            segments = sequence.unfold(1, self.segment_frames, 1).transpose(2, 3)
            last_outputs = self.forward_segment(segments.flatten(0, 1))[:, -1]
            predictions.append(last_outputs.reshape(batch_size, segments.shape[1], N_OUTPUTS))
        return torch.cat(predictions, dim=1)


class Seq2Seq(SlidingSegmentModel):
    """An LSTM encoder whose last state an LSTM decoder unfolds into one prediction per frame, with a dense tanh output.

    The decoder starts from the encoder's last hidden and cell state (Sutskever, Vinyals and Le, "Sequence to sequence
    learning with neural networks", NIPS 2014), and the encoder's last hidden state, the context vector, is its input
    at every step (Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014).
    """

    of: ClassVar[type[Architecture]] = Seq2SeqArchitecture

    def __init__(self, n_features: int, **arguments: Any) -> None:
        super().__init__(Seq2SeqArchitecture(n_features, **arguments))
        n_hidden = self.architecture.n_hidden
        self.encoder = nn.LSTM(n_features, n_hidden, batch_first=True)
        self.decoder = nn.LSTM(n_hidden, n_hidden, batch_first=True)

    def forward_segment(self, segment: Tensor) -> Tensor:
        _, (hidden, cell) = self.encoder(segment)
        context = hidden[-1].unsqueeze(1).expand(-1, segment.shape[1], -1)
        decoded, _ = self.decoder(context, (hidden, cell))
        return torch.tanh(self.output(decoded))
