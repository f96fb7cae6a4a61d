"""All settings of a live run: the tables of a settings file, each with its defaults; [osc] and [control] are in osc.py.

What a table refuses it names by its own key alone; whoever reads a file knows the rest of the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from realtime_mer.config.checks import check_choice, check_range, check_text, wrong
from realtime_mer.config.osc import ControlSettings, OscSettings

PCM_FORMATS = ("s16le", "s24le", "s32le", "f32le")
# Everything, or the plane alone on a whole screen.
MODES = ("operator", "stage")
THEMES = ("dark", "light")
LOG_LEVELS = ("debug", "info", "warning", "error")

_MAX_CHANNELS = 8  # a recording is FLAC, which holds no more


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """[audio]: the sound card.

    device: `default`, an index, or a part of a name, as `realtime-mer devices` lists them.
    host_api: a part of the name of PortAudio's host API, where several offer the device; none: any.
    channels: which of the device's channels to listen to, counted from 1, at most 8; none: the first two, or the only
        one.
    rate_hz: samples per second, 8000 to 384000; none: the device's own.
    block_samples: samples per channel in a block, 64 to 16384; none: 10 ms.
    latency: PortAudio's buffer: "low", "high", or seconds, more than 0 and at most 10.
    buffer_s: how much sound may wait for the pipeline before the oldest is dropped, 0.5 to 60.

    Raises ConfigError for values out of these ranges, as the other tables do.
    """

    device: str = "default"
    host_api: str | None = None
    channels: tuple[int, ...] | None = None
    rate_hz: int | None = None
    block_samples: int | None = None
    latency: str | float = "high"
    buffer_s: float = 4.0

    def __post_init__(self) -> None:
        check_text("device", self.device)
        check_text("host_api", self.host_api)
        if self.channels is not None:
            distinct = len(set(self.channels)) == len(self.channels)
            if not (distinct and 1 <= len(self.channels) <= _MAX_CHANNELS and min(self.channels) >= 1):
                expected = f"a list of 1 to {_MAX_CHANNELS} different channels, counted from 1,"
                raise wrong("channels", expected, list(self.channels))
        check_range("rate_hz", self.rate_hz, 8_000, 384_000)
        check_range("block_samples", self.block_samples, 64, 16_384)
        if self.latency not in ("low", "high") and (isinstance(self.latency, str) or not 0 < self.latency <= 10):
            raise wrong("latency", "'low', 'high', or seconds (more than 0, at most 10)", self.latency)
        check_range("buffer_s", self.buffer_s, 0.5, 60)


@dataclass(frozen=True, slots=True)
class InputSettings:
    """[input]: a file instead of the sound card.

    file: an audio file, or `-` for raw PCM from standard input; none: the sound card. loop: begin again at its end.
    fast: as fast as possible instead of in real time.
    pcm_format, pcm_rate_hz, pcm_channels: what standard input brings: one of PCM_FORMATS, 8000 to 384000 samples per
        second, 1 to 8 channels.
    """

    file: str | None = None
    loop: bool = False
    fast: bool = False
    pcm_format: str = "s16le"
    pcm_rate_hz: int = 44_100
    pcm_channels: int = 2

    def __post_init__(self) -> None:
        check_text("file", self.file)
        check_choice("pcm_format", self.pcm_format, PCM_FORMATS)
        check_range("pcm_rate_hz", self.pcm_rate_hz, 8_000, 384_000)
        check_range("pcm_channels", self.pcm_channels, 1, _MAX_CHANNELS)


@dataclass(frozen=True, slots=True)
class LevelMeterSettings:
    """[level]: what the input's level means. Both from -100 to 0, RMS in dBFS.

    silence_db: a frame in whose last half second nothing is louder than this is silence: the prediction holds, and
        music after two seconds of it is heard afresh.
    quiet_db: music that stays below this is reported as too quiet; that changes nothing else.
    """

    silence_db: float = -60.0
    quiet_db: float = -45.0

    def __post_init__(self) -> None:
        check_range("silence_db", self.silence_db, -100, 0)
        check_range("quiet_db", self.quiet_db, -100, 0)


@dataclass(frozen=True, slots=True)
class QuadrantSettings:
    """[quadrant]: when the music counts as being in another quadrant of the plane.

    hysteresis: how far past an axis valence or arousal has to be to change sides, 0 to 0.5.
    dwell_s: how long a quadrant lasts at least, 0 to 60.
    """

    hysteresis: float = 0.05
    dwell_s: float = 2.0

    def __post_init__(self) -> None:
        check_range("hysteresis", self.hysteresis, 0, 0.5)
        check_range("dwell_s", self.dwell_s, 0, 60)


@dataclass(frozen=True, slots=True)
class DisplaySettings:
    """[display]: what is shown on this computer.

    plot: a window, where there is a display. terminal: the terminal view, where there is no window.
    mode: how the window begins, one of MODES; theme: its colours, one of THEMES; screen: the one that it is on, counted
        from 1, at most 16. None of them: as it was left.
    trail_s: how long the point's trail takes to fade, 1 to 120.
    keep_running: whether the run goes on where the window is closed.
    """

    plot: bool = True
    terminal: bool = True
    mode: str | None = None
    theme: str | None = None
    screen: int | None = None
    trail_s: float = 30.0
    keep_running: bool = False

    def __post_init__(self) -> None:
        if self.mode is not None:
            check_choice("mode", self.mode, MODES)
        if self.theme is not None:
            check_choice("theme", self.theme, THEMES)
        check_range("screen", self.screen, 1, 16)
        check_range("trail_s", self.trail_s, 1, 120)


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """[recording]: directory: a new folder to record into; none: no recording."""

    directory: str | None = None

    def __post_init__(self) -> None:
        check_text("directory", self.directory)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]: file: where what happens is told, line by line, `-` for standard error; none: nowhere.

    level: one of LOG_LEVELS; only what is as grave as that, or more, is told.
    """

    file: str | None = None
    level: str = "info"

    def __post_init__(self) -> None:
        check_text("file", self.file)
        check_choice("level", self.level, LOG_LEVELS)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """[model]: checkpoint: a trained model; none: the one that comes with realtime-mer."""

    checkpoint: str | None = None

    def __post_init__(self) -> None:
        check_text("checkpoint", self.checkpoint)


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
