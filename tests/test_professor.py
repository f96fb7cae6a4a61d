"""Professor forcing: the discriminator learns to separate the passes, and the model to make them alike."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from train.models import LiveModel
from train.models.live import TrainingPass
from train.professor import Professor

MEMBERS, BATCH, FRAMES, HIDDEN = 2, 8, 6, 4


def small_model(**arguments: float) -> LiveModel:
    torch.manual_seed(0)
    return LiveModel(5, n_members=MEMBERS, n_embedding=8, n_hidden=HIDDEN, n_attention=3, **arguments)


def a_pass(level: float, seed: int = 0) -> TrainingPass:
    """States and predictions around a level."""
    generator = torch.Generator().manual_seed(seed)
    states = level + 0.1 * torch.randn(MEMBERS, BATCH, FRAMES, HIDDEN, generator=generator)
    return TrainingPass(level + 0.1 * torch.randn(MEMBERS, BATCH, FRAMES, 2, generator=generator), states)


class Taught(LiveModel):
    """A model whose taught pass is always the same."""

    def __init__(self, taught: TrainingPass) -> None:
        super().__init__(5, n_members=MEMBERS, n_embedding=8, n_hidden=HIDDEN)
        self.taught = taught
        self.asked: list[tuple[Tensor | None, float]] = []

    def training_pass(
        self,
        sequence: Tensor,
        labels: Tensor | None = None,
        teacher_forcing: float = 0.0,
        *_: Any,
        **__: Any,
    ) -> TrainingPass:
        self.asked.append((labels, teacher_forcing))
        return self.taught


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, FRAMES, 5, generator=generator), torch.rand(BATCH, FRAMES, 2, generator=generator)


def discriminator(professor: Professor) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in professor._parameters]


def test_it_learns_to_separate_two_obviously_different_passes() -> None:
    """The model's loss is ln 2 for an untrained discriminator and grows as it learns."""
    features, labels = batch()
    torch.manual_seed(0)
    professor, model = Professor(HIDDEN), Taught(a_pass(0.5))
    losses = [professor.loss(model, features, labels, a_pass(-0.5, seed)).item() for seed in range(150)]
    assert losses[0] == pytest.approx(math.log(2.0), abs=0.2)
    assert losses[-1] > 3.0
    taught, free = (professor._verdict(professor._sequences(each)) for each in (a_pass(0.5, 200), a_pass(-0.5, 201)))
    assert (taught > 0.0).all()
    assert (free < 0.0).all()
    assert model.asked[0][0] is labels
    assert {forcing for _, forcing in model.asked} == {1.0}


def test_equal_passes_cannot_be_separated() -> None:
    features, labels = batch()
    torch.manual_seed(0)
    professor = Professor(HIDDEN)
    losses = [
        professor.loss(Taught(a_pass(0.3, s)), features, labels, a_pass(0.3, 1_000 + s)).item() for s in range(60)
    ]
    assert sum(losses[-20:]) / 20 == pytest.approx(math.log(2.0), abs=0.15)


def test_the_loss_trains_the_model_and_not_the_discriminator() -> None:
    model, (features, labels) = small_model().train(), batch()
    torch.manual_seed(0)
    professor = Professor(HIDDEN)
    before = discriminator(professor)
    loss = professor.loss(model, features, labels, model.training_pass(features))
    after = discriminator(professor)
    assert loss.shape == ()
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True)), "one step of its own"

    own_gradients = [parameter.grad.clone() for parameter in professor._parameters if parameter.grad is not None]
    assert len(own_gradients) == len(after)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.flatten(1).abs().amax(dim=1) > 0.0).all(), name
    for gradient, parameter in zip(own_gradients, professor._parameters, strict=True):
        assert parameter.grad is not None
        assert torch.equal(gradient, parameter.grad), "the model's loss adds nothing to it"
        assert parameter.requires_grad
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(after, discriminator(professor), strict=True))


def test_the_discriminators_step_does_not_change_the_model() -> None:
    model, (features, labels) = small_model().train(), batch()
    professor = Professor(HIDDEN)
    professor.loss(model, features, labels, model.training_pass(features))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_against_a_trained_discriminator_the_passes_become_alike() -> None:
    """The loss moves the free states towards the taught ones."""
    features, labels = batch()
    torch.manual_seed(0)
    professor, model = Professor(HIDDEN), Taught(a_pass(0.5))
    for seed in range(100):
        professor.loss(model, features, labels, a_pass(-0.5, seed))
    free = a_pass(-0.5, 500)
    states, predictions = free.states.requires_grad_(), free.predictions.requires_grad_()
    optimizer = torch.optim.Adam([states, predictions], lr=0.05)
    before = professor.loss(model, features, labels, TrainingPass(predictions, states)).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = professor.loss(model, features, labels, TrainingPass(predictions, states))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.5 * before
