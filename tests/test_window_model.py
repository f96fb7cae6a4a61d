"""The model of windows, its training, and the ranks that go with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import verify_model

from realtime_mer.models.ranks import Ranks
from train.models import WindowModel
from train.others import area_under_curve, rank_table, ranks
from train.windows import fit_window_model, on_deam_scale


def small_model() -> WindowModel:
    torch.manual_seed(0)
    return WindowModel(6, n_landmarks=60, n_members=2, n_hidden=16, n_narrow=8, input_dropout=0.0, hidden_dropout=0.0)


def test_it_keeps_the_contract_and_has_no_state() -> None:
    model = small_model().eval()
    verify_model(model, torch.randn(3, 20, 6), stateful=False)


@pytest.mark.slow
def test_all_three_learners_learn() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 6)).astype(np.float32)
    targets = (0.3 * np.tanh(rows[:, :2])).astype(np.float32)
    model = small_model()
    fit_window_model(
        model, rows, targets, np.ones(400), linear_penalty=1e-2, kernel_penalty=1e-4, epochs=10, batch_rows=32,
        learning_rate=1e-2, weight_decay=0.0, seed=0,
    )  # fmt: skip
    x = torch.from_numpy(rows)
    parts = (
        x @ model.linear_weight + model.linear_bias,
        model.kernels(x) @ model.kernel_weight + model.kernel_bias,
        torch.stack([member(x) for member in model.members]).mean(dim=0),
    )
    for part in parts:
        assert np.mean((part.detach().numpy() - targets) ** 2) < 0.5 * np.var(targets)


@pytest.mark.parametrize("arguments", [{"n_landmarks": 0}, {"kernel_width": 0.0}, {"linear_share": 1.0}])
def test_arguments_are_checked(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        WindowModel(6, **arguments)


def test_other_targets_lie_around_the_mean_of_the_labels() -> None:
    labels = np.array([[0.0, 0.2], [0.2, 0.4]], dtype=np.float32)
    corners = on_deam_scale(np.array([[1.0, -1.0]]), labels, 0.5, rated=False)
    assert corners[0] == pytest.approx([0.15, 0.25])
    rated = on_deam_scale(np.array([[1.0, 4.0], [3.0, 2.0]]), labels, 1.0, rated=True)
    assert rated == pytest.approx(np.array([[0.0, 0.4], [0.2, 0.2]]))


def test_ranks_of_the_songs_that_the_table_was_made_of_are_uniform() -> None:
    rng = np.random.default_rng(0)
    songs = [rng.normal(0.1, 0.2, size=(20, 2)).astype(np.float32) for _ in range(50)]
    table = rank_table(songs)
    found = ranks(np.concatenate(songs), table)
    assert np.quantile(found, [0.1, 0.5, 0.9], axis=0) == pytest.approx(
        np.array([[0.1] * 2, [0.5] * 2, [0.9] * 2]), abs=0.02
    )
    frozen = Ranks(tuple(table[:, 0].tolist()), tuple(table[:, 1].tolist()))
    assert frozen.of(*songs[0][0].tolist()) == pytest.approx(found[0])
    assert Ranks.from_dict(frozen.to_dict()) == frozen
    assert frozen.of(-9.0, 9.0) == (0.0, 1.0)


@pytest.mark.parametrize("valence", [(0.1,), (0.2, 0.1), (0.0, float("nan")), (0, 1)])
def test_ranks_are_checked(valence: tuple[float, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Ranks(valence, (0.0, 1.0))


def test_area_under_the_curve() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.8])
    assert area_under_curve(values, np.array([False, False, True, True])) == pytest.approx(0.75)
