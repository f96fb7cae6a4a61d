"""Training configurations in TOML: defaults, and errors that name the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from realtime_mer.features.extraction import ExtractionSettings
from realtime_mer.features.gain import GainSettings
from realtime_mer.models.architecture import Architecture
from train.config import Config, ConfigError, FeaturesConfig, ModelConfig, TrainingConfig, load_config, parse_config
from train.models import MODELS

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "model.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_overrides_the_defaults(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            """
            [model]
            name = "live"
            arguments = {n_hidden = 16}
            [features]
            set = "deam260+descriptors"
            level = true
            [training]
            protocol = "sequences"
            learning_rate = 1
            curriculum = [8, 18]
            """,
        )
    )
    assert config == Config(
        ModelConfig("live", {"n_hidden": 16}),
        FeaturesConfig(set="deam260+descriptors", level=True),
        TrainingConfig(protocol="sequences", learning_rate=1.0, curriculum=(8, 18)),
    )
    assert isinstance(config.training.learning_rate, float)
    assert config.features.extraction() == ExtractionSettings(GainSettings(), descriptors=True)
    assert FeaturesConfig().extraction() == ExtractionSettings(None, descriptors=False)
    assert parse_config(config.to_dict()) == config


# live.toml has the settings of a live run (tests/test_config.py).
MODEL_CONFIGS = sorted(path for path in CONFIGS.glob("*.toml") if path.name != "live.toml")


@pytest.mark.parametrize("path", MODEL_CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_in_the_repository_can_be_loaded(path: Path) -> None:
    load_config(path)


SEQUENCES = '[training]\nprotocol = "sequences"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model: this key is missing"),
        ('model = "mlp"', "model: expected a table, got 'mlp'"),
        ('[model]\nname = "seq2sec"', "model.name: expected one of mlp, seq2seq, seq2seq_a, live, windows, got 'seq2"),
        ("[trainin]", "trainin: there is no such table. Did you mean training?"),
        ("arguments = {hidden = 3}", "model.arguments.hidden: there is no such key. Did you mean n_hidden?"),
        ("arguments = {n_hidden = 3.5}", "model.arguments.n_hidden: expected a whole number, got 3.5"),
        ("arguments = {n_features = 3}", "model.arguments.n_features: there is no such key."),
        ("[features]\nlevels = true", "features.levels: there is no such key. Did you mean features.level?"),
        (
            '[features]\nset = "deam"',
            "features.set: expected one of 'deam260', 'deam260+descriptors', 'open', got 'deam'",
        ),
        ("[training]\nepochs = 0", "training.epochs: expected a whole number of at least 1, got 0"),
        (f"{SEQUENCES}curriculum = 8", "training.curriculum: expected a list, each a whole number"),
        (f"{SEQUENCES}epochs = 1\ncurriculum = [8, 9]", "training.curriculum: expected at most one length"),
        ("[training]\ncurriculum = [8]", 'training.curriculum: this has no effect with protocol = "segments"'),
        (f"{SEQUENCES}segments_per_song = 2", "training.segments_per_song: this has no effect with"),
        (f"{SEQUENCES}professor_forcing = 1\nsets = 1", "training.professor_forcing: this needs whole clips"),
        (f"{SEQUENCES}teacher_forcing = 0.5", "training.teacher_forcing: only the model 'live' offers that, not 'mlp'"),
        ("[training", "this is not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text if not text or "model" in text else f'[model]\nname = "mlp"\n{text}')
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_model_of_sequences_cannot_be_trained_on_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlySequences:
        of = Architecture

    monkeypatch.setitem(MODELS, "only_sequences", OnlySequences)
    with pytest.raises(ConfigError, match=r'only_sequences cannot be trained on segments; set protocol = "sequences"'):
        parse_config({"model": {"name": "only_sequences"}})
    parse_config({"model": {"name": "only_sequences"}, "training": {"protocol": "sequences"}})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: the settings cannot be read"):
        load_config(tmp_path / "missing.toml")
