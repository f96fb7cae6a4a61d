"""Professor forcing (Lamb, Goyal et al., "Professor forcing", NIPS 2016).

A discriminator learns to distinguish the decoder's states with its own predictions fed back from its states with labels
fed back. The model learns to make them alike, so that what it learns with labels also holds without them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.models.live import LiveModel, TrainingPass

_HIDDEN = 32
_LEARNING_RATE = 1e-3


class Professor:
    """The discriminator and its optimiser, for one training run."""

    def __init__(self, n_hidden: int) -> None:
        self._reader = nn.GRU(n_hidden + 2, _HIDDEN, batch_first=True)
        self._judge = nn.Linear(_HIDDEN, 1)
        self._parameters = [*self._reader.parameters(), *self._judge.parameters()]
        self._optimizer = torch.optim.Adam(self._parameters, lr=_LEARNING_RATE)

    def loss(self, model: LiveModel, features: Tensor, labels: Tensor, free: TrainingPass) -> Tensor:
        """Takes one discriminator step; returns the model's loss (a scalar): free should look like taught.

        Unlike in the paper, the pass with labels fed back does not train the model, since the free pass also has the
        labels as its targets.
        """
        with torch.no_grad():
            taught = self._sequences(model.training_pass(features, labels, teacher_forcing=1.0))
        own = self._sequences(free)
        verdict = self._verdict(taught), self._verdict(own.detach())
        error = _cross_entropy(verdict[0], 1.0) + _cross_entropy(verdict[1], 0.0)
        self._optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

        # The model's own step must not change the discriminator.
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        fooled = _cross_entropy(self._verdict(own), 1.0)
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        return fooled

    def _verdict(self, sequences: Tensor) -> Tensor:
        _, last = self._reader(sequences)
        verdict: Tensor = self._judge(last[0])
        return verdict

    @staticmethod
    def _sequences(training_pass: TrainingPass) -> Tensor:
        """States and predictions of all members as one batch: (members · batch, frames, n_hidden + 2)."""
        return torch.cat([training_pass.states, training_pass.predictions], dim=3).flatten(0, 1)


def _cross_entropy(verdict: Tensor, truth: float) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, truth))
