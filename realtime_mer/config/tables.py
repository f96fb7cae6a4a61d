"""The settings of a live run: a dataclass for each table of a settings file, with its defaults and ranges.

[osc] and [control] are in osc.py. The ranges are checked when settings are loaded (loading.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from realtime_mer.config.checks import ConfigError, Text, one_of, wrong
from realtime_mer.config.osc import ControlSettings, OscSettings

PCM_FORMATS = ("s16le", "s24le", "s32le", "f32le")
# Everything, or the plane alone on a whole screen.
MODES = ("operator", "stage")
THEMES = ("dark", "light")
LOG_LEVELS = ("debug", "info", "warning", "error")
# The models that come with realtime-mer.
MODEL_NAMES = ("default", "open")
# Predictions a second. Each has one at every whole half second; models on openSMILE have only the first rate.
PREDICTION_RATES_HZ = (2.0, 4.0, 10.0, 20.0)

_MAX_CHANNELS = 8  # a recording is FLAC, which holds no more

_RateHz = Annotated[int, Meta(ge=8_000, le=384_000)]
_LevelDb = Annotated[float, Meta(ge=-100, le=0)]


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """[audio]: the sound card.

    device: `default`, an index, or a part of a name, as `realtime-mer devices` lists them.
    host_api: a part of the name of PortAudio's host API, if several offer the device; None: any.
    channels: the device's channels to use, counted from 1, at most 8; None: the first two, or the only one.
    rate_hz: samples per second; None: the device's own.
    block_samples: samples per channel in a block; None: 10 ms.
    latency: PortAudio's buffer: "low", "high", or seconds.
    buffer_s: how much sound may wait for the pipeline before the oldest is dropped.
    """

    device: Text = "default"
    host_api: Text | None = None
    channels: tuple[int, ...] | None = None
    rate_hz: _RateHz | None = None
    block_samples: Annotated[int, Meta(ge=64, le=16_384)] | None = None
    latency: Annotated[str, one_of("low", "high")] | Annotated[float, Meta(gt=0, le=10)] = "high"
    buffer_s: Annotated[float, Meta(ge=0.5, le=60)] = 4.0

    def __post_init__(self) -> None:
        if self.channels is not None:
            distinct = len(set(self.channels)) == len(self.channels)
            if not (distinct and 1 <= len(self.channels) <= _MAX_CHANNELS and min(self.channels) >= 1):
                expected = f"a list of 1 to {_MAX_CHANNELS} different channels, counted from 1"
                raise wrong("channels", expected, list(self.channels))


@dataclass(frozen=True, slots=True)
class InputSettings:
    """[input]: a file instead of the sound card.

    file: an audio file, or `-` for raw PCM from standard input; None: the sound card. loop: begin again at its end.
    fast: as fast as possible instead of in real time.
    pcm_format, pcm_rate_hz, pcm_channels: the format of standard input.
    """

    file: Text | None = None
    loop: bool = False
    fast: bool = False
    pcm_format: Annotated[str, one_of(*PCM_FORMATS)] = "s16le"
    pcm_rate_hz: _RateHz = 44_100
    pcm_channels: Annotated[int, Meta(ge=1, le=_MAX_CHANNELS)] = 2


@dataclass(frozen=True, slots=True)
class LevelMeterSettings:
    """[level]: what the input's level means; RMS in dBFS.

    silence_db: a frame whose last half second is nowhere louder than this is silence: the prediction holds, and music
        after two seconds of silence is a fresh start.
    quiet_db: music that stays below this is reported as too quiet; that has no other effect.
    """

    silence_db: _LevelDb = -60.0
    quiet_db: _LevelDb = -45.0


@dataclass(frozen=True, slots=True)
class QuadrantSettings:
    """[quadrant]: when the music counts as being in another quadrant of the plane.

    hysteresis: how far past an axis valence or arousal must be to change sides. dwell_s: how long a quadrant lasts at
    least.
    """

    hysteresis: Annotated[float, Meta(ge=0, le=0.5)] = 0.05
    dwell_s: Annotated[float, Meta(ge=0, le=60)] = 2.0


@dataclass(frozen=True, slots=True)
class DisplaySettings:
    """[display]: what is shown on this computer.

    plot: a window, if there is a display. terminal: the terminal view, if there is no window.
    mode: how the window begins, one of MODES; theme: its colours, one of THEMES; screen: its screen, counted from 1.
        None: as it was left.
    trail_s: how long the point's trail takes to fade.
    keep_running: whether the run continues if the window is closed.
    """

    plot: bool = True
    terminal: bool = True
    mode: Annotated[str, one_of(*MODES)] | None = None
    theme: Annotated[str, one_of(*THEMES)] | None = None
    screen: Annotated[int, Meta(ge=1, le=16)] | None = None
    trail_s: Annotated[float, Meta(ge=1, le=120)] = 30.0
    keep_running: bool = False


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """[recording]: directory: a new folder to record into; None: no recording."""

    directory: Text | None = None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]: file: where the log is written, `-` for standard error; None: no log. level: one of LOG_LEVELS."""

    file: Text | None = None
    level: Annotated[str, one_of(*LOG_LEVELS)] = "info"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """[model]: the model that predicts, and how often.

    name: one of MODEL_NAMES. checkpoint: the file of another model instead.
    rate_hz: predictions a second, one of PREDICTION_RATES_HZ; None: 10 for the open model, 2 for all others.
    """

    name: Annotated[str, one_of(*MODEL_NAMES)] = "default"
    checkpoint: Text | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.name != "default":
            raise ConfigError(
                f"name: expected either the name of a model or a checkpoint, got both: {self.name} and "
                f"{self.checkpoint}. Leave one of them out."
            )
        if self.rate_hz is None:
            return
        if self.rate_hz not in PREDICTION_RATES_HZ:
            raise wrong("rate_hz", f"one of {', '.join(f'{rate:g}' for rate in PREDICTION_RATES_HZ)}", self.rate_hz)
        if self.checkpoint is None and self.name == "default" and self.rate_hz != PREDICTION_RATES_HZ[0]:
            raise ConfigError(
                f"rate_hz: expected 2 for the default model, which predicts twice a second, got {self.rate_hz:g}. "
                "The open model has other rates: --model open"
            )

    @property
    def predictions_hz(self) -> float:
        """Predictions a second."""
        if self.rate_hz is not None:
            return self.rate_hz
        return 10.0 if self.name == "open" else PREDICTION_RATES_HZ[0]


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """All settings of a live run; the fields are the tables of a settings file."""

    audio: AudioSettings = field(default_factory=AudioSettings)
    input: InputSettings = field(default_factory=InputSettings)
    level: LevelMeterSettings = field(default_factory=LevelMeterSettings)
    quadrant: QuadrantSettings = field(default_factory=QuadrantSettings)
    osc: OscSettings = field(default_factory=OscSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    display: DisplaySettings = field(default_factory=DisplaySettings)
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    log: LogSettings = field(default_factory=LogSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
