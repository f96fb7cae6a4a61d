"""The published sequence-to-sequence model with attention, seq2seq_a, in torch."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from realtime_mer.models.architecture import N_OUTPUTS, Architecture
from realtime_mer.models.seq2seq import Seq2SeqAttentionArchitecture
from train.models.seq2seq import SlidingSegmentModel


class AdditiveAttention(nn.Module):
    """Additive attention (Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning to align and
    translate", ICLR 2015, section 3.1):

        e_ij = vᵀ tanh(W s_{i-1} + U h_j),   a_ij = exp(e_ij) / Σ_k exp(e_ik),   c_i = Σ_j a_ij h_j
    """

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.query_weight = nn.Linear(n_hidden, n_hidden, bias=False)
        self.key_weight = nn.Linear(n_hidden, n_hidden, bias=False)
        self.score_weight = nn.Linear(n_hidden, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """U h_j for every h_j of the memory, once for all steps: (batch, frames, n_hidden) in and out."""
        keys: Tensor = self.key_weight(memory)
        return keys

    def forward(self, query: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """query: s_{i-1}, the decoder's state, shape (batch, n_hidden); memory: h_j, the encoder's outputs, shape
        (batch, frames, n_hidden); keys: `keys(memory)`. Returns the context c_i, shape (batch, n_hidden).
        """
        scores = self.score_weight(torch.tanh(self.query_weight(query).unsqueeze(1) + keys))
        return (torch.softmax(scores, dim=1) * memory).sum(dim=1)


class Seq2SeqAttention(SlidingSegmentModel):
    """A GRU encoder and a GRU decoder that attends to the encoder's outputs anew at every step.

    The decoder starts from the encoder's last state s_0 and a zero prediction y_0. At step i the attended context c_i
    and the previous prediction are the cell's input: s_i = GRU([c_i; y_{i-1}], s_{i-1}), y_i = tanh(V s_i + b).
    The decoder's own predictions are fed back in training too (no teacher forcing).
    """

    of: ClassVar[type[Architecture]] = Seq2SeqAttentionArchitecture

    def __init__(self, n_features: int, **arguments: Any) -> None:
        super().__init__(Seq2SeqAttentionArchitecture(n_features, **arguments))
        n_hidden = self.architecture.n_hidden
        self.encoder = nn.GRU(n_features, n_hidden, batch_first=True)
        self.attention = AdditiveAttention(n_hidden)
        self.decoder = nn.GRUCell(n_hidden + N_OUTPUTS, n_hidden)

    def forward_segment(self, segment: Tensor) -> Tensor:
        memory, last_state = self.encoder(segment)
        keys = self.attention.keys(memory)
        hidden: Tensor = last_state[-1]
        prediction = hidden.new_zeros(len(segment), N_OUTPUTS)
        predictions = []
        for _ in range(segment.shape[1]):
            context = self.attention(hidden, memory, keys)
            hidden = self.decoder(torch.cat([context, prediction], dim=1), hidden)
            prediction = torch.tanh(self.output(hidden))
            predictions.append(prediction)
        return torch.stack(predictions, dim=1)
