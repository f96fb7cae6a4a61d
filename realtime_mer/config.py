"""Every setting of a live run, with its default; files and the command line change them, key by key.

Order: the defaults here, then `--config FILE.toml`, then the command line. `configs/live.toml` explains each key to
whoever writes such a file.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

PCM_FORMATS = ("s16le", "s24le", "s32le", "f32le")

_MAX_FILE_BYTES = 2**20
_MAX_CHANNELS = 8  # a recording is FLAC, which holds no more


class UsageError(ValueError):
    """What was asked for cannot be done, whatever the files and devices hold."""


class ConfigError(UsageError):
    """A settings file, or a setting, that cannot be used; the message names the key and what was expected there."""


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
        _check_text("audio.device", self.device)
        _check_text("audio.host_api", self.host_api)
        if self.channels is not None:
            distinct = len(set(self.channels)) == len(self.channels)
            if not (distinct and 1 <= len(self.channels) <= _MAX_CHANNELS and min(self.channels) >= 1):
                expected = f"a list of 1 to {_MAX_CHANNELS} different channels, counted from 1,"
                raise _wrong("audio.channels", expected, list(self.channels))
        _check_range("audio.rate_hz", self.rate_hz, 8_000, 384_000)
        _check_range("audio.block_samples", self.block_samples, 64, 16_384)
        if self.latency not in ("low", "high") and (isinstance(self.latency, str) or not 0 < self.latency <= 10):
            raise _wrong("audio.latency", "'low', 'high', or seconds (more than 0, at most 10)", self.latency)
        _check_range("audio.buffer_s", self.buffer_s, 0.5, 60)


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
        _check_text("input.file", self.file)
        if self.pcm_format not in PCM_FORMATS:
            raise _wrong("input.pcm_format", f"one of {', '.join(map(repr, PCM_FORMATS))}", self.pcm_format)
        _check_range("input.pcm_rate_hz", self.pcm_rate_hz, 8_000, 384_000)
        _check_range("input.pcm_channels", self.pcm_channels, 1, _MAX_CHANNELS)


@dataclass(frozen=True, slots=True)
class LevelMeterSettings:
    """[level]: what the input's level means. Both from -100 to 0, RMS in dBFS.

    silence_db: a frame of which nothing is louder than this is silence: the prediction holds, and music after two
        seconds of it is heard afresh.
    quiet_db: music that stays below this is reported as too quiet; that changes nothing else.
    """

    silence_db: float = -60.0
    quiet_db: float = -45.0

    def __post_init__(self) -> None:
        _check_range("level.silence_db", self.silence_db, -100, 0)
        _check_range("level.quiet_db", self.quiet_db, -100, 0)


@dataclass(frozen=True, slots=True)
class OscSettings:
    """[osc]: targets: HOST:PORT for each receiver; none at all: nothing is sent."""

    targets: tuple[str, ...] = ("127.0.0.1:9000",)

    def __post_init__(self) -> None:
        for target in self.targets:
            _check_text("osc.targets", target)


@dataclass(frozen=True, slots=True)
class DisplaySettings:
    """[display]: plot: a window, where there is a display. terminal: the terminal view."""

    plot: bool = True
    terminal: bool = True


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """[recording]: directory: a new folder to record into; none: no recording."""

    directory: str | None = None

    def __post_init__(self) -> None:
        _check_text("recording.directory", self.directory)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """[model]: checkpoint: a trained model; none: the one that comes with realtime-mer."""

    checkpoint: str | None = None

    def __post_init__(self) -> None:
        _check_text("model.checkpoint", self.checkpoint)


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """All settings of a live run; the fields are the tables of a settings file."""

    audio: AudioSettings = field(default_factory=AudioSettings)
    input: InputSettings = field(default_factory=InputSettings)
    level: LevelMeterSettings = field(default_factory=LevelMeterSettings)
    osc: OscSettings = field(default_factory=OscSettings)
    display: DisplaySettings = field(default_factory=DisplaySettings)
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    model: ModelSettings = field(default_factory=ModelSettings)


# Each table's dataclass, and the types of its keys.
_CLASSES: dict[str, Any] = get_type_hints(LiveSettings)
_TABLES: dict[str, dict[str, Any]] = {table: get_type_hints(kind) for table, kind in _CLASSES.items()}
_EXPECTED: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text in quotes",
    tuple[int, ...]: "a list of whole numbers",
    tuple[str, ...]: "a list of texts in quotes",
}


def load_settings(path: Path | None, overrides: Mapping[str, object]) -> LiveSettings:
    """The defaults, with what the TOML file at `path` (if any) says instead, and over that the overrides.

    overrides: values by keys such as `audio.device`; None stands for none, where a key has that.
    Raises ConfigError, naming the file where it is at fault, and the key: where the file cannot be read, for keys that
    there are not, and for values of another type or range. Nothing is converted but whole numbers to fractional ones.
    """
    from_file: dict[str, Any] = {}
    if path is not None:
        try:
            from_file = _checked(_flat(_read(path)))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    from_overrides = _checked(overrides)
    try:
        return _settings(from_file | from_overrides)
    except ConfigError:
        # Whose fault is a value out of range? The file's, where it would be without the overrides.
        try:
            _settings(from_file)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        raise


def settings_toml(settings: LiveSettings) -> str:
    """Every setting in force, as a TOML file that `load_settings` reads; keys that are none are left out."""
    import tomli_w

    tables = asdict(settings)
    return tomli_w.dumps(
        {table: {key: value for key, value in keys.items() if value is not None} for table, keys in tables.items()}
    )


def _read(path: Path) -> dict[str, Any]:
    """A TOML file's values. Raises ConfigError, without the file's name, where there are none to be had."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the settings cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # a name that no file can have
        raise ConfigError(f"the settings cannot be read: {error}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"this is no settings file: it is larger than {_MAX_FILE_BYTES // 2**20} MiB.")
    try:
        # With a byte-order mark, if there is one: editors on Windows write it.
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"this file is not in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is no TOML: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("this cannot be read: a number is too long, or lists lie too deep in lists.") from error


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a TOML file by keys such as `audio.device`. Raises ConfigError for what is in no known table."""
    for name, table in tables.items():
        if name in _TABLES:
            if not isinstance(table, dict):
                raise ConfigError(f"{name}: a table was expected: write [{name}], and its keys below it.")
        elif isinstance(table, dict):
            near = difflib.get_close_matches(name.lower(), _TABLES, n=1)
            cure = f"Did you mean [{near[0]}]?" if near else f"There are: {', '.join(_TABLES)}."
            raise ConfigError(f"{_name(name)}: there is no such table. {cure}")
        else:
            raise ConfigError(f"{_name(name)}: this key stands in no table. {_nearest_key(name)}")
    return {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}


def _checked(values: Mapping[str, object]) -> dict[str, Any]:
    """The values, by keys such as `audio.device`, as their types. Raises ConfigError for unknown keys, other types."""
    checked = {}
    for key, value in values.items():
        table, _, name = key.partition(".")
        if table not in _TABLES or name not in _TABLES[table]:
            raise ConfigError(f"{_name(key)}: there is no such key. {_nearest_key(key)}")
        expected = _TABLES[table][name]
        try:
            checked[key] = _typed(value, expected)
        except TypeError as error:
            kinds = [kind for kind in _kinds(expected) if kind is not NoneType]
            raise _wrong(key, " or ".join(_EXPECTED[kind] for kind in kinds), value) from error
    return checked


def _settings(values: Mapping[str, Any]) -> LiveSettings:
    """The defaults with these values, by keys such as `audio.device`, instead. Raises ConfigError out of range."""
    return LiveSettings(
        **{
            table: kind(**{key: values[f"{table}.{key}"] for key in _TABLES[table] if f"{table}.{key}" in values})
            for table, kind in _CLASSES.items()
        }
    )


def _kinds(expected: Any) -> tuple[Any, ...]:
    return get_args(expected) if isinstance(expected, UnionType) else (expected,)


def _typed(value: object, expected: Any) -> Any:
    """The value as the type that is expected of it. Raises TypeError where it has another one."""
    for kind in _kinds(expected):
        if get_origin(kind) is tuple:
            if isinstance(value, list | tuple):
                return tuple(_typed(element, get_args(kind)[0]) for element in value)
        # In Python, though not in TOML, true is a whole number.
        elif isinstance(value, bool) and kind is not bool:
            continue
        # Neither infinite nor not a number; nor a whole number that is too large to be converted.
        elif kind is float and isinstance(value, int | float) and abs(value) <= sys.float_info.max:
            return float(value)
        elif kind is not float and isinstance(value, kind) and not _is_huge(value):
            return value
    raise TypeError


def _is_huge(value: object) -> bool:
    """Whether this is a whole number that TOML does not promise to hold, as Python does not to print."""
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _check_text(key: str, value: str | None) -> None:
    """Refuses what names nothing, and what no file or device can be called or a TOML file cannot hold."""
    if value is not None and not value.strip():
        raise _wrong(key, "a text that is not empty", value)
    if value is not None and ("\0" in value or any("\ud800" <= character <= "\udfff" for character in value)):
        raise _wrong(key, "a text in Unicode, without the character NUL,", value)


def _check_range(key: str, value: float | None, lowest: float, highest: float) -> None:
    if value is not None and not lowest <= value <= highest:
        raise _wrong(key, f"a number from {lowest} to {highest}", value)


def _wrong(key: str, expected: str, value: object) -> ConfigError:
    return ConfigError(f"{key}: {expected} was expected, not {_SHOWN.repr(value)}.")


def _nearest_key(key: str) -> str:
    """A sentence: which key was probably meant; those that there are, where none is near."""
    table, _, name = key.rpartition(".")
    everywhere = {k: f"{t}.{k}" for t, keys in _TABLES.items() for k in keys}
    here = {k: everywhere[k] for k in _TABLES.get(table, ())}
    if name in everywhere:
        return f"Did you mean {everywhere[name]}?"
    for known in (here, everywhere):
        if near := difflib.get_close_matches(name.lower(), known, n=1):
            return f"Did you mean {known[near[0]]}?"
    return f"There are: {', '.join((here or everywhere).values())}."


def _name(key: str) -> str:
    """A key as it stands in a message; one that needs quotes in TOML gets them, and is cut short."""
    return key if re.fullmatch(r"[A-Za-z0-9_.-]{1,80}", key) else _SHOWN.repr(key)


class _Shown(reprlib.Repr):
    """How a value stands in a message: as in TOML, cut short."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = 80

    def repr_bool(self, value: bool, level: int) -> str:
        return "true" if value else "false"

    def repr_int(self, value: int, level: int) -> str:
        return "a number of more than 64 bits" if _is_huge(value) else str(value)

    def repr_instance(self, value: object, level: int) -> str:
        return str(value)  # dates and times; not as Python writes them


_SHOWN = _Shown()
