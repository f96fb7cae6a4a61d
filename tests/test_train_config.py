"""Training configurations in TOML: defaults, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from realtime_mer.features.extraction import ExtractionSettings
from realtime_mer.features.gain import GainSettings
from train.config import Config, ConfigError, FeaturesConfig, ModelConfig, TrainingConfig, load_config, parse_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "model.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_says_only_what_differs_from_the_defaults(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", ["mlp", "seq2seq", "seq2seq_a"])
def test_the_published_configurations_are_the_published_protocol(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.toml")
    assert config.model == ModelConfig(name)
    assert config.features == FeaturesConfig(set="deam260", level=False, scaler="min_max")
    assert (config.training.weight_decay > 0) == (name == "mlp")
    expected: dict[str, Any] = {
        "protocol": "segments",
        "epochs": 16,
        "learning_rate": 1e-3,
        "schedule": "halving",
        "halve_every_epochs": 2,
        "optimizer": "adam",
        "gradient_clip_norm": 0.0,
        "altered_copies": 0,
    }
    assert {key: getattr(config.training, key) for key in expected} == expected


# live.toml has the settings of a live run (tests/test_config.py).
MODEL_CONFIGS = sorted(path for path in CONFIGS.glob("*.toml") if path.name != "live.toml")


@pytest.mark.parametrize("path", MODEL_CONFIGS, ids=lambda path: path.stem)
def test_every_model_in_the_repository_can_be_trained(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model.name is missing; choose one of mlp, seq2seq"),
        ("[model]", "model.name is missing"),
        ('model = "mlp"', r"model: a table was expected, not 'mlp'. Write \[model\]"),
        ("[model]\nname = 3", "model.name: a text was expected, not 3"),
        ('[model]\nname = "seq2sec"', "model.name: there is no model 'seq2sec'. Did you mean 'seq2seq'"),
        ('[model]\nname = "mlp"\n[trainin]', "trainin: there is no such table. Did you mean 'training'"),
        (
            '[model]\nname = "mlp"\narguments = {hidden = 3}',
            "model.arguments.hidden: mlp has no such argument. Did you mean 'n_hidden'",
        ),
        (
            '[model]\nname = "mlp"\narguments = {n_hidden = 3.5}',
            "model.arguments.n_hidden: a whole number was expected",
        ),
        ('[model]\nname = "mlp"\narguments = {n_features = 3}', "model.arguments.n_features: mlp has no such argument"),
        ('[model]\nname = "mlp"\narguments = 3', "model.arguments: a table was expected, not 3"),
        ('[model]\nname = "mlp"\nsize = 3', "model.size: there is no such key. There are: name, arguments"),
        ("[features]\nlevels = true", "features.levels: there is no such key. Did you mean 'level'"),
        ("[features]\nlevel = 1", "features.level: true or false was expected, not 1"),
        ('[features]\nset = "deam"', "features.set: one of 'deam260', 'deam260.descriptors' was expected, not 'deam'"),
        ("[training]\nepoch = 3", "training.epoch: there is no such key. Did you mean 'epochs'"),
        ("[training]\nepochs = 3.0", "training.epochs: a whole number was expected, not 3.0"),
        ("[training]\nepochs = true", "training.epochs: a whole number was expected, not True"),
        ("[training]\nepochs = 0", "training.epochs: at least 1 was expected, not 0"),
        ('[training]\nlearning_rate = "1e-3"', "training.learning_rate: a finite number was expected, not '1e-3'"),
        ("[training]\nlearning_rate = nan", "training.learning_rate: a finite number was expected, not nan"),
        ("[training]\nlearning_rate = 0", "training.learning_rate: more than 0 was expected, not 0"),
        ("[training]\nweight_decay = -1e-3", "training.weight_decay: 0 or more was expected, not -0.001"),
        ('[training]\nschedule = "cosine"', "training.schedule: one of 'halving', 'one_cycle' was expected"),
        ('[training]\nprotocol = "sequences"\ncurriculum = 8', "training.curriculum: a list was expected, not 8"),
        (
            '[training]\nprotocol = "sequences"\ncurriculum = [8, "all"]',
            r"training.curriculum\[1\]: a whole number was expected, not 'all'",
        ),
        ('[training]\nprotocol = "sequences"\ncurriculum = [0]', "training.curriculum: frame counts of at least 1"),
        (
            '[training]\nprotocol = "sequences"\nepochs = 1\ncurriculum = [8, 9]',
            "2 lengths, but there are only 1 epochs",
        ),
        ("[training]\ncurriculum = [8]", 'training.curriculum means nothing in the protocol "segments"'),
        (
            '[training]\nprotocol = "sequences"\nsegments_per_song = 2',
            'training.segments_per_song means nothing in the protocol "sequences"',
        ),
        (
            '[training]\nprotocol = "sequences"\nteacher_forcing = 0.5',
            "training.teacher_forcing: only the model 'live' offers that, not 'mlp'",
        ),
        ("[training", "this is no TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(
        tmp_path, text if not text.startswith(("[features]", "[training]")) else f'model = {{name="mlp"}}\n{text}'
    )
    with pytest.raises(ConfigError, match=message) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_model_of_sequences_cannot_be_trained_on_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlySequences:
        def __init__(self, n_features: int) -> None: ...

    monkeypatch.setitem(parse_config.__globals__["MODELS"], "only_sequences", OnlySequences)
    with pytest.raises(ConfigError, match=r'only_sequences cannot be trained on segments; set protocol = "sequences"'):
        parse_config({"model": {"name": "only_sequences"}})
    parse_config({"model": {"name": "only_sequences"}, "training": {"protocol": "sequences"}})


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="the configuration cannot be read"):
        load_config(path)
