"""How a model is trained: every default once, TOML files over them, and nothing that is misspelt goes unnoticed."""

from __future__ import annotations

import difflib
import inspect
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from realtime_mer.features.extraction import ExtractionSettings
from realtime_mer.features.gain import GainSettings
from realtime_mer.models.architectures import MODELS, LiveModel
from realtime_mer.models.scaling import ScalerKind

Section = TypeVar("Section")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and what was expected there."""


@dataclass(frozen=True)
class ModelConfig:
    """name: a key of realtime_mer.models.MODELS. arguments: its constructor's; n_features is for the data to decide."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            raise ConfigError(f"model.name: there is no model {self.name!r}.{_nearest(self.name, MODELS)}")
        parameters = dict(inspect.signature(MODELS[self.name]).parameters)
        del parameters["n_features"]
        types = get_type_hints(MODELS[self.name].__init__)
        for name, value in self.arguments.items():
            if name not in parameters:
                raise ConfigError(
                    f"model.arguments.{name}: {self.name} has no such argument.{_nearest(name, parameters)}"
                )
            _typed(f"model.arguments.{name}", value, types[name])


@dataclass(frozen=True)
class FeaturesConfig:
    """The inputs of a model.

    set: DEAM's 260 features, alone or with the tonal, rhythm and timbre descriptors.
    exclude: features whose name begins so are left out.
    level: whether the gain stage comes first. scaler: see realtime_mer.models.scaling.
    """

    set: Literal["deam260", "deam260+descriptors"] = "deam260"
    exclude: tuple[str, ...] = ()
    level: bool = False
    scaler: ScalerKind = "min_max"

    def extraction(self) -> ExtractionSettings:
        """The settings to extract these features with."""
        return ExtractionSettings(GainSettings() if self.level else None, descriptors=self.set != "deam260")

    def selected(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names that are not excluded. Raises ConfigError for an exclusion that no name begins with."""
        for prefix in self.exclude:
            if not any(name.startswith(prefix) for name in names):
                raise ConfigError(f"features.exclude: no feature's name begins with {prefix!r}.")
        return tuple(name for name in names if not name.startswith(self.exclude))


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; the defaults are the published protocol.

    protocol: "segments", the published one: the loss is that of random segments of 8 frames, and the best epoch is the
        one with the best segment score on validation. "sequences": songs from their first frame on, run causally, the
        loss over every labelled frame; the best epoch is the one with the best streaming score.
    schedule: "halving": the learning rate is halved every `halve_every_epochs`. "one_cycle": it rises to
        `learning_rate` and falls again in one cosine cycle over all steps.
    optimizer: "adam", whose weight decay is an L2 term of the loss; "adamw" decays the weights on their own.
    batch_songs: segments or sequences in a step. segments_per_song: random segments of each song in an epoch. The
        source of the protocol gives neither; both were chosen on validation. With one segment per song and epoch the
        learning rate is halved away before the models have learnt (MLP: R² .14/.41 instead of .23/.49).
    gradient_clip_norm: the norm that the gradient is cut to; 0 leaves it as it is.
    sequence_noise: standard deviation of the Gaussian noise added to each scaled feature, one draw for all frames of a
        sequence, so that a model cannot average it away.
    altered_copies: how many altered copies of each training song are used too (train.augmentation).
    curriculum: lengths of the training sequences in frames, one after the other over the run: songs are cut into
        runs of that length, each from a fresh state. A longer one than the songs leaves them whole, and so does an
        empty curriculum.
    teacher_forcing: probability that a model which feeds back its predictions is given the labels instead.
    teacher_forcing_decay: whether it falls linearly to 0 over the run (scheduled sampling) or stays.
    professor_forcing: weight of professor forcing (train.professor); 0 for none.
    sets: how many sets of set_songs training songs, played through the extraction in one piece, are trained on beside
        the songs (train.sets).
    linear_penalty: of the linear readout, for models that have one: how many times the features' unit variance is
        added to their covariance.
    keep: which epoch's weights are kept: the "best" on validation, or the "last".
    """

    protocol: Literal["segments", "sequences"] = "segments"
    epochs: int = 16
    learning_rate: float = 1e-3
    schedule: Literal["halving", "one_cycle"] = "halving"
    halve_every_epochs: int = 2
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    batch_songs: int = 16
    segments_per_song: int = 8
    seed: int = 0
    gradient_clip_norm: float = 0.0
    altered_copies: int = 0
    sequence_noise: float = 0.0
    curriculum: tuple[int, ...] = ()
    teacher_forcing: float = 0.0
    teacher_forcing_decay: bool = True
    professor_forcing: float = 0.0
    sets: int = 0
    set_songs: int = 60
    linear_penalty: float = 1.0
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        for name in ("epochs", "halve_every_epochs", "batch_songs", "segments_per_song", "set_songs"):
            _check(getattr(self, name) >= 1, name, self, "at least 1")
        for name in (
            "weight_decay",
            "seed",
            "gradient_clip_norm",
            "sequence_noise",
            "altered_copies",
            "sets",
            "professor_forcing",
        ):
            _check(getattr(self, name) >= 0, name, self, "0 or more")
        for name in ("learning_rate", "linear_penalty"):
            _check(getattr(self, name) > 0, name, self, "more than 0")
        _check(0 <= self.teacher_forcing <= 1, "teacher_forcing", self, "a share from 0 to 1")
        _check(all(count >= 1 for count in self.curriculum), "curriculum", self, "frame counts of at least 1")
        if self.professor_forcing > 0 and (self.curriculum or self.sets):
            raise ConfigError(
                "training.professor_forcing goes with whole clips only: set curriculum = [] and sets = 0."
            )
        if len(self.curriculum) > self.epochs:
            raise ConfigError(
                f"training.curriculum has {len(self.curriculum)} lengths, but there are only {self.epochs} epochs."
            )
        # An option that the protocol never looks at would be believed to have had an effect.
        others = {"segments": ("curriculum", "teacher_forcing", "sets"), "sequences": ("segments_per_song",)}
        for name in others[self.protocol]:
            if getattr(self, name) != next(item.default for item in fields(self) if item.name == name):
                raise ConfigError(f'training.{name} means nothing in the protocol "{self.protocol}": remove it.')


@dataclass(frozen=True)
class Config:
    """One model and how it is trained."""

    model: ModelConfig
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        segments, model = self.training.protocol == "segments", MODELS[self.model.name]
        if segments and not hasattr(model, "forward_segment"):
            raise ConfigError(
                f'training.protocol: {self.model.name} cannot be trained on segments; set protocol = "sequences".'
            )
        if not issubclass(model, LiveModel):
            for name in ("curriculum", "teacher_forcing", "professor_forcing"):
                if getattr(self.training, name):
                    raise ConfigError(f"training.{name}: only the model 'live' offers that, not {self.model.name!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as in a TOML file."""
        return asdict(self)


def load_config(path: Path) -> Config:
    """The configuration in a TOML file with the tables [model], [features] and [training].

    What the file does not say keeps its default. Raises ConfigError, naming file and key, where the file cannot be
    read, and for unknown keys and values of another type or range than expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: the configuration cannot be read: {reason}.") from error
    try:
        return parse_config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: this is no TOML: {error}.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(values: Mapping[str, Any]) -> Config:
    """The configuration that nested plain values describe. Raises ConfigError as `load_config`, without the file."""
    sections = {"model": ModelConfig, "features": FeaturesConfig, "training": TrainingConfig}
    for name, value in values.items():
        if name not in sections:
            raise ConfigError(f"{name}: there is no such table.{_nearest(name, sections)}")
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name}: a table was expected, not {value!r}. Write [{name}] and its keys below it.")
    if "name" not in values.get("model", {}):
        raise ConfigError(f"model.name is missing; choose one of {', '.join(MODELS)}.")
    return Config(
        _section("model", values["model"], ModelConfig),
        _section("features", values.get("features", {}), FeaturesConfig),
        _section("training", values.get("training", {}), TrainingConfig),
    )


def _section(name: str, values: Mapping[str, Any], kind: type[Section]) -> Section:
    types = get_type_hints(kind)
    for key in values:
        if key not in types:
            raise ConfigError(f"{name}.{key}: there is no such key.{_nearest(key, types)}")
    return kind(**{key: _typed(f"{name}.{key}", value, types[key]) for key, value in values.items()})


def _typed(key: str, value: Any, expected: Any) -> Any:
    """The value as the type that is expected of it. Raises ConfigError, naming the key, where it has another one."""
    if get_origin(expected) is Literal:
        choices = get_args(expected)
        if value in choices:
            return value
        raise ConfigError(f"{key}: one of {', '.join(map(repr, choices))} was expected, not {value!r}.")
    if get_origin(expected) is tuple:
        if isinstance(value, list | tuple):
            return tuple(_typed(f"{key}[{i}]", element, get_args(expected)[0]) for i, element in enumerate(value))
        raise ConfigError(f"{key}: a list was expected, not {value!r}.")
    if get_origin(expected) is Mapping:
        if isinstance(value, Mapping):
            return dict(value)
        raise ConfigError(f"{key}: a table was expected, not {value!r}.")
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    if expected not in words:
        return value  # a model's argument of a richer type, which its constructor checks
    accepted = (int, float) if expected is float else expected
    # In Python, though not in TOML, true is an integer.
    of_type = isinstance(value, accepted) and isinstance(value, bool) == (expected is bool)
    if of_type and (expected is not float or math.isfinite(value)):
        return expected(value)
    raise ConfigError(f"{key}: {words[expected]} was expected, not {value!r}.")


def _check(fits: bool, name: str, section: TrainingConfig, expected: str) -> None:
    if not fits:
        raise ConfigError(f"training.{name}: {expected} was expected, not {getattr(section, name)!r}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    """Which known name was probably meant; all of them where none is near."""
    candidates = list(known)
    near = difflib.get_close_matches(name, candidates, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(candidates) or 'none'}."
