"""How a model is trained: every default once, overridden by TOML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from msgspec import Meta

from realtime_mer.config.checks import ConfigError, wrong
from realtime_mer.config.loading import blaming, convert, read_toml
from realtime_mer.features.extraction import ExtractionSettings
from realtime_mer.features.gain import GainSettings
from realtime_mer.models.scaling import ScalerKind
from train.models import MODELS, LiveModel, WindowModel

__all__ = ["Config", "ConfigError", "FeaturesConfig", "ModelConfig", "TrainingConfig", "load_config", "parse_config"]

_Count = Annotated[int, Meta(ge=1)]
_CountOrNone = Annotated[int, Meta(ge=0)]
_Positive = Annotated[float, Meta(gt=0)]
_NotNegative = Annotated[float, Meta(ge=0)]
_Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class ModelConfig:
    """name: a key of MODELS. arguments: its architecture's, without n_features."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            raise wrong("name", f"one of {', '.join(MODELS)}", self.name)
        architecture = MODELS[self.name].of
        types = get_type_hints(architecture)
        names = [one.name for one in fields(architecture) if one.name != "n_features"]
        try:
            convert(make_dataclass("Arguments", [(name, types[name], None) for name in names]), self.arguments)
        except ConfigError as error:
            raise ConfigError(f"arguments.{error}") from error


@dataclass(frozen=True)
class FeaturesConfig:
    """The inputs of a model.

    set: DEAM's 260 features, alone or with the tonal, rhythm and timbre descriptors of the last ten seconds; or the
        descriptors of the music since its last change, alone.
    exclude: features whose name begins so are left out.
    level: whether the gain stage comes first. scaler: see realtime_mer.models.scaling.
    """

    set: Literal["deam260", "deam260+descriptors", "open"] = "deam260"
    exclude: tuple[str, ...] = ()
    level: bool = False
    scaler: ScalerKind = "min_max"

    def extraction(self) -> ExtractionSettings:
        """The settings to extract these features with."""
        level = GainSettings() if self.level else None
        if self.set == "open":
            return ExtractionSettings(level, "responsive", opensmile=False)
        return ExtractionSettings(level, descriptors=self.set != "deam260")

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
        loss over every labelled frame; the best epoch is the one with the best streaming score. "windows": for the
        model "windows", on windows of every length (train.windows); the last epoch is kept.
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
    quadrants_weight, quadrants_scale: of the clips with a quadrant that take part in the protocol "windows", if there
        are any: how much such a clip counts beside a song of DEAM, and how many s.d. of DEAM's labels from their mean
        its target lies. ratings_weight, ratings_scale: the same for clips with mean ratings.
    kernel_penalty: of the kernel machine, per unit of its norm.
    linear_penalty: of the linear readout, for models that have one: how many times the features' unit variance is
        added to their covariance.
    keep: which epoch's weights are kept: the "best" on validation, or the "last".
    """

    protocol: Literal["segments", "sequences", "windows"] = "segments"
    epochs: _Count = 16
    learning_rate: _Positive = 1e-3
    schedule: Literal["halving", "one_cycle"] = "halving"
    halve_every_epochs: _Count = 2
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: _NotNegative = 0.0
    batch_songs: _Count = 16
    segments_per_song: _Count = 8
    seed: _CountOrNone = 0
    gradient_clip_norm: _NotNegative = 0.0
    altered_copies: _CountOrNone = 0
    sequence_noise: _NotNegative = 0.0
    curriculum: tuple[_Count, ...] = ()
    teacher_forcing: _Share = 0.0
    teacher_forcing_decay: bool = True
    professor_forcing: _NotNegative = 0.0
    sets: _CountOrNone = 0
    set_songs: _Count = 60
    quadrants_weight: _NotNegative = 0.0
    quadrants_scale: _Positive = 0.75
    ratings_weight: _NotNegative = 0.0
    ratings_scale: _Positive = 0.8
    kernel_penalty: _Positive = 3e-4
    linear_penalty: _Positive = 1.0
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        if self.professor_forcing > 0 and (self.curriculum or self.sets):
            raise ConfigError("professor_forcing: this needs whole clips: set curriculum = [] and sets = 0.")
        if len(self.curriculum) > self.epochs:
            raise wrong("curriculum", f"at most one length for each of {self.epochs} epochs", list(self.curriculum))
        # An option without effect would be misleading.
        windows_only = ("quadrants_weight", "ratings_weight")
        others = {
            "segments": ("curriculum", "teacher_forcing", "sets", *windows_only),
            "sequences": ("segments_per_song", *windows_only),
            "windows": ("segments_per_song", "curriculum", "teacher_forcing", "sets", "altered_copies"),
        }
        for name in others[self.protocol]:
            if getattr(self, name) != next(item.default for item in fields(self) if item.name == name):
                raise ConfigError(f'{name}: this has no effect with protocol = "{self.protocol}": remove it.')


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
        if (self.training.protocol == "windows") != (model is WindowModel):
            raise ConfigError('training.protocol: "windows" is for the model "windows", and that model only for it.')
        if model is WindowModel and (self.features.set != "open" or self.training.keep != "last"):
            raise ConfigError('model "windows": set features.set = "open" and training.keep = "last".')
        if not issubclass(model, LiveModel):
            for name in ("curriculum", "teacher_forcing", "professor_forcing"):
                if getattr(self.training, name):
                    raise ConfigError(f"training.{name}: only the model 'live' offers that, not {self.model.name!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as in a TOML file."""
        return asdict(self)


def load_config(path: Path) -> Config:
    """The configuration in a TOML file with the tables [model], [features] and [training]; missing keys have defaults.

    Raises ConfigError, naming file and key, if the file cannot be read, and for unknown keys and values of another type
    or range.
    """
    with blaming(path):
        return parse_config(read_toml(path))


def parse_config(values: Mapping[str, Any]) -> Config:
    """The configuration in nested plain values. Raises ConfigError as `load_config`, without the file."""
    return convert(Config, values)
