"""The comparison of variants: their configurations, their parts and their differences."""

from __future__ import annotations

import copy
import tomllib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from training_songs import made_up_data, made_up_scores, made_up_song, silent_console

from realtime_mer.features.extraction import frame_names
from train import explore as exploring
from train.config import Config, ConfigError, parse_config
from train.data import Dataset
from train.deam import folds
from train.explore import BASE, VARIANTS, Outcome, Variant, changed, cross_validate, explore, markdown
from train.loop import fit, score_sequences
from train.models import MODELS

pytestmark = pytest.mark.slow
LIVE_MODEL_TOML = Path(__file__).resolve().parents[1] / "configs" / "live_model.toml"
SMALL: dict[str, Any] = {
    "model": {"name": "live", "arguments": {"n_hidden": 4, "n_members": 2, "n_embedding": 8, "linear_share": 0.25}},
    "features": {"scaler": "signed_log_standard"},
    "training": {"protocol": "sequences", "epochs": 6, "learning_rate": 0.01, "linear_penalty": 0.01, "keep": "last"},
}


def data(n_songs: int = 20) -> Dataset:
    return made_up_data([made_up_song(song_id, n_frames=10) for song_id in range(1, n_songs + 1)])


# --- variants


def test_changed_updates_nested_values() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 2, "c": {"d": {"e": 3}}}
    original = copy.deepcopy(below)
    above = {"a": {"y": [9], "z": 4}, "c": {"d": {"e": 5}}, "f": {"g": 6}, "b": {"h": 7}}
    result = changed(below, above)
    assert result == {"a": {"x": 1, "y": [9], "z": 4}, "b": {"h": 7}, "c": {"d": {"e": 5}}, "f": {"g": 6}}
    untouched = changed(below, {})
    assert below == untouched == original
    untouched["a"]["y"].append(3)
    assert below == original, "no value is shared"


@pytest.fixture(scope="module")
def configs() -> dict[str, Config]:
    """The configuration of each variant of configs/live_model.toml, by the variant's name, without training it."""
    taken: list[Config] = []
    song = made_up_song(1)

    def take(config: Config, *_: Any) -> Any:
        taken.append(config)
        return [song], {part: [song.labels] for part in ("model", "network", "linear")}, 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exploring, "load_dataset", lambda *_, **__: data())
        patch.setattr(exploring, "cross_validate", take)
        live = parse_config(tomllib.loads(LIVE_MODEL_TOML.read_text(encoding="utf-8")))
        outcomes = explore(Path("deam"), live.to_dict(), 1, [], silent_console())
    return {outcome.variant.name: config for outcome, config in zip(outcomes, taken, strict=True)}


def test_the_base_comes_first_and_all_variants_differ(configs: dict[str, Config]) -> None:
    assert list(configs) == [variant.name for variant in VARIANTS], "names are unique"
    assert VARIANTS[0] is BASE
    seen: list[Config] = []
    for name, config in configs.items():
        assert config not in seen, name
        seen.append(config)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.group}: {variant.name}")
def test_a_variant_can_be_trained(variant: Variant, configs: dict[str, Config]) -> None:
    """Its exclusions exclude something, and its model can be built for the remaining features."""
    config = configs[variant.name]
    extracted = frame_names(config.features.extraction())
    names = config.features.selected(extracted)
    model = MODELS[config.model.name](len(names), **config.model.arguments)
    # Running statistics are those of DEAM's features, all of them or none.
    assert asdict(model.architecture)["n_running"] in (0, sum(name in extracted[:260] for name in names))


# --- cross-validation


def test_every_song_is_predicted_by_a_model_trained_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, config = data(), parse_config(SMALL)
    trained_on: list[tuple[int, ...]] = []

    def noted(config: Config, dataset: Dataset, split: Any, console: Console) -> Any:
        trained_on.append(split["train"])
        assert not split["test"]
        return fit(config, dataset, split, console)

    monkeypatch.setattr(exploring, "fit", noted)
    song_ids = list(range(1, 16))
    held_out, predictions, seconds = cross_validate(config, dataset, song_ids, 5, silent_console())
    parts = folds(song_ids, 5, 1)
    assert [song.song_id for song in held_out] == [song_id for fold in parts for song_id in fold["test"]]
    assert sorted(song.song_id for song in held_out) == song_ids
    assert trained_on == [fold["train"] for fold in parts]
    assert list(predictions) == ["model", "network", "linear"]
    assert seconds > 0.0
    for whole, network, linear, song in zip(*predictions.values(), held_out, strict=True):
        assert whole.shape == (10, 2)
        np.testing.assert_allclose(whole, 0.75 * network + 0.25 * linear, rtol=0.0, atol=1e-6)
        assert np.abs(network - linear).max() > 1e-3
        assert len(song.labels) == 10
    # The labels are all but a linear function of the features.
    assert score_sequences(predictions["linear"], held_out, 1).valence.r2.value > 0.5


def test_a_model_without_parts_is_refused() -> None:
    config = parse_config({"model": {"name": "mlp"}, "training": {"epochs": 1}})
    with pytest.raises(ConfigError, match=r"Expected the model 'live'.*got 'mlp'"):
        cross_validate(config, data(), range(1, 16), 1, silent_console())


# --- the whole comparison


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Made-up data, three variants, and the calls that load data."""
    calls: list[dict[str, Any]] = []
    dataset = made_up_data(
        [made_up_song(song_id, n_frames=10) for song_id in range(1, 21)],
        {song_id: "test" if song_id > 16 else "validation" if song_id > 13 else "train" for song_id in range(1, 21)},
    )

    def load(deam_root: Path, extraction: Any, **arguments: Any) -> Dataset:
        calls.append({"root": deam_root, "extraction": extraction, **arguments})
        return dataset

    variants = (
        BASE,
        Variant("ensembling", "one member", {"model": {"arguments": {"n_members": 1}}}),
        Variant("data", "one altered copy", {"training": {"altered_copies": 1}}),
        Variant("ensembling", "only linear", {"model": {"arguments": {"linear_share": 1.0}}}),
    )
    monkeypatch.setattr(exploring, "load_dataset", load)
    monkeypatch.setattr(exploring, "VARIANTS", variants)
    return calls


def test_all_variants_are_compared_without_a_test_song(loaded: list[dict[str, Any]]) -> None:
    outcomes = explore(Path("deam"), SMALL, 5, [], silent_console(), jobs=3)
    names = [outcome.variant.name for outcome in outcomes]
    assert names == [BASE.name, "one member", "one altered copy", "only linear"]
    for outcome in outcomes:
        assert (outcome.model.n_songs, outcome.model.n_frames) == (16, 160)
        assert outcome.linear.valence.r2.value > 0.5
    # Data are loaded again only if a variant needs others.
    assert [call["altered_copies"] for call in loaded] == [0, 1, 0]
    assert all(call["jobs"] == 3 and call["root"] == Path("deam") for call in loaded)
    assert outcomes[3].model == outcomes[3].linear
    assert outcomes[0].linear == outcomes[1].linear, "the same readout on the same folds"
    assert outcomes[0].network != outcomes[1].network


@pytest.mark.parametrize(
    ("names", "compared"),
    [
        ([BASE.group, "ensembling"], [BASE.name, "one member", "only linear"]),
        ([BASE.group, "only linear"], [BASE.name, "only linear"]),
    ],
)
def test_groups_and_names_can_be_chosen(loaded: list[dict[str, Any]], names: list[str], compared: list[str]) -> None:
    assert [o.variant.name for o in explore(Path("deam"), SMALL, 1, names, silent_console())] == compared
    assert len(loaded) == 1


@pytest.mark.parametrize("names", [["ensemblnig"], [BASE.group, "ensemblnig"]])
def test_an_unknown_name_is_refused(loaded: list[dict[str, Any]], names: list[str]) -> None:
    with pytest.raises(ValueError, match="ensemblnig"):
        explore(Path("deam"), SMALL, 1, names, silent_console())


def test_differences_are_always_from_the_base(loaded: list[dict[str, Any]]) -> None:
    outcomes = explore(Path("deam"), SMALL, 1, ["only linear"], silent_console())
    (row,) = (line for line in markdown(outcomes, 1, "explore").splitlines() if "only linear" in line)
    assert "+0.000 / +0.000" not in row


def test_the_page_shows_scores_and_differences() -> None:
    scores = partial(made_up_scores, n_songs=12, within_song_r=0.1)
    outcomes = [
        Outcome(BASE, scores(0.4, 0.6), scores(0.3, 0.5), scores(0.35, 0.55), 61.4),
        Outcome(Variant("size", "128"), scores(0.38, 0.615), scores(0.1, 0.2), scores(0.35, 0.55), 99.6),
    ]
    page = markdown(outcomes, 2, "python -m train explore --deam PATH --folds 2")
    assert "in 2 of five\nfolds" in page
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    assert rows[1:] == [
        ["base", BASE.name, "0.400 / 0.600", "+0.000 / +0.000", "0.300 / 0.500", "0.350 / 0.550", "0.10 / 0.10", "61"],
        ["size", "128", "0.380 / 0.615", "-0.020 / +0.015", "0.100 / 0.200", "0.350 / 0.550", "0.10 / 0.10", "100"],
    ]
    assert len(rows[0]) == 8
