"""Reads settings from TOML files and the command line, and writes them."""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from realtime_mer.config.addresses import parse_target
from realtime_mer.config.checks import ConfigError, is_huge, name_in_message, wrong
from realtime_mer.config.osc import MappedValue, TargetSettings
from realtime_mer.config.profiles import profile_names, profile_path
from realtime_mer.config.tables import LiveSettings

_MAX_FILE_BYTES = 2**20
# Of a dotted key, tomllib remembers every beginning: where one key fills the file, that is more than memory holds.
_MAX_DOTS = 50

_TARGETS = "osc.targets"
# The two ways to write them, of which a file can have one.
_TARGETS_AS_LIST = re.compile(r"^[ \t]*(?:osc[ \t]*\.[ \t]*)?targets[ \t]*=", re.MULTILINE)
_TARGETS_AS_TABLES = re.compile(r"^[ \t]*\[\[[ \t]*osc[ \t]*\.[ \t]*targets[ \t]*\]\]", re.MULTILINE)
_EXPECTED: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text in quotes",
    MappedValue: "a table",
    TargetSettings: "HOST:PORT in quotes, or a table,",
    tuple[int, ...]: "a list of whole numbers",
    tuple[float, ...]: "a list of numbers",
    tuple[str, ...]: "a list of texts in quotes",
    tuple[MappedValue, ...]: "a list of tables, each headed [[osc.targets.map]],",
    tuple[TargetSettings, ...]: "a list, each HOST:PORT in quotes or a table headed [[osc.targets]],",
}


def _types(table: str, kind: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The types of a table's keys, by name, and those of the tables that lie in it."""
    types = get_type_hints(kind)
    yield table, {"profile": str} | types if kind is TargetSettings else types
    for key, expected in types.items():
        for part in get_args(expected):
            if is_dataclass(part):
                yield from _types(f"{table}.{key}", part)


# The dataclasses of a file's tables; and the types of each table's keys, by names such as `osc.targets.map`.
_CLASSES: dict[str, Any] = get_type_hints(LiveSettings)
_KEYS = dict(pair for table, kind in _CLASSES.items() for pair in _types(table, kind))


def load_settings(path: Path | None, overrides: Mapping[str, object]) -> LiveSettings:
    """The defaults, with what the TOML file at `path` (if any) says instead, and over that the overrides.

    overrides: values by keys such as `audio.device`; None stands for none, where a key has that.
    Raises ConfigError, naming the file where it is at fault, and the key: where the file cannot be read, for keys that
    there are not, and for values of another type or range. Nothing is converted but whole numbers to fractional ones,
    and the texts and profiles of OSC targets to their settings.
    """
    from_file: dict[str, Any] = {}
    if path is not None:
        with _blaming(path):
            from_file = _typed_keys(_flat(_read_settings(path)))
    from_overrides = _typed_keys(overrides)
    try:
        return _settings(from_file | from_overrides)
    except ConfigError:
        # Whose fault is a value out of range? The file's, where it would be without the overrides.
        with _blaming(path):
            _settings(from_file)
        raise


def settings_toml(settings: LiveSettings) -> str:
    """Every setting in force, as a TOML file that `load_settings` reads; keys that are none are left out."""
    import tomli_w

    def some(keys: list[tuple[str, object]]) -> dict[str, object]:
        return {key: value for key, value in keys if value is not None}

    return tomli_w.dumps(asdict(settings, dict_factory=some))


def _read_settings(path: Path) -> dict[str, Any]:
    """A settings file's tables. Raises ConfigError, without the file's name, also where it is a profile instead."""
    profile = str(path)
    if profile in profile_names() and not path.exists():
        raise ConfigError(f"there is no such file, but an OSC profile of this name: --osc-profile {profile}")
    values = _read(path)
    if values and values.keys() <= _KEYS[_TARGETS].keys():
        raise ConfigError(
            "these are the keys of an OSC profile: give the file as --osc-profile PATH. (In a settings file, they "
            "stand below [[osc.targets]].)"
        )
    return values


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
    for number, line in enumerate(content.split(b"\n"), start=1):
        # A key stands in one line, and never has two dots together, as some comments do.
        if len(re.findall(rb"\.+", line)) > _MAX_DOTS:
            raise ConfigError(f"this is no settings file: line {number} has more than {_MAX_DOTS} dots.")
    try:
        # With a byte-order mark, if there is one: editors on Windows write it.
        text = content.decode("utf-8-sig")
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"this file is not in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8."
        ) from error
    except tomllib.TOMLDecodeError as error:
        if _TARGETS_AS_LIST.search(text) and _TARGETS_AS_TABLES.search(text):
            raise ConfigError(
                "osc.targets stands there twice, as targets = [...] and as [[osc.targets]]: write each target of the "
                "list as an [[osc.targets]] of its own, with its host and port, and leave the list out."
            ) from error
        raise ConfigError(f"this is no TOML: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("this cannot be read: a number is too long, or lists lie too deep in lists.") from error


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a TOML file by keys such as `audio.device`. Raises ConfigError for what is in no known table."""
    for name, table in tables.items():
        if name in _CLASSES:
            if not isinstance(table, dict):
                raise ConfigError(f"{name}: a table was expected: write [{name}], and its keys below it.")
        elif isinstance(table, dict):
            near = difflib.get_close_matches(name.lower(), _CLASSES, n=1)
            cure = f"Did you mean [{near[0]}]?" if near else f"There are: {', '.join(_CLASSES)}."
            raise ConfigError(f"{name_in_message(name)}: there is no such table. {cure}")
        else:
            raise ConfigError(f"{name_in_message(name)}: this key stands in no table. {_nearest_key('', '', name)}")
    return {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}


def _typed_keys(values: Mapping[str, object]) -> dict[str, Any]:
    """The values, by keys such as `audio.device`, as their types. Raises ConfigError for unknown keys, other types."""
    typed = {}
    for key, value in values.items():
        *above, name = key.split(".", maxsplit=1)
        table = "".join(above)
        try:
            typed[key] = _typed_key(table, table, name, value)
        except ConfigError as error:
            if isinstance(value, list | tuple) and len(value) > 1 and str(error).startswith(f"{key}["):
                raise ConfigError(f"{error} (The first is [1].)") from error
            raise
    return typed


def _settings(values: Mapping[str, Any]) -> LiveSettings:
    """The defaults with these values, by keys such as `audio.device`, instead. Raises ConfigError out of range."""
    tables: dict[str, dict[str, Any]] = {table: {} for table in _CLASSES}
    for key, value in values.items():
        table, _, name = key.partition(".")
        tables[table][name] = value
    return LiveSettings(**{table: _made(table, kind, tables[table]) for table, kind in _CLASSES.items()})


def _typed_table(where: str, table: str, values: Mapping[str, object]) -> dict[str, Any]:
    """The values, by a table's own keys, as their types. Raises ConfigError for unknown keys, other types.

    where: the table's name as a message gives it, as in `osc.targets[2]`; table: as _KEYS has it.
    """
    return {name: _typed_key(where, table, name, value) for name, value in values.items()}


def _typed_key(where: str, table: str, name: str, value: object) -> Any:
    key = _joined(where, name)
    if name not in _KEYS.get(table, ()):
        raise ConfigError(f"{name_in_message(key)}: there is no such key. {_nearest_key(where, table, name)}")
    return _typed(key, f"{table}.{name}", value, _KEYS[table][name])


def _typed(where: str, key: str, value: object, expected: Any) -> Any:
    """The value as the type that is expected of it. Raises ConfigError where it has another one.

    where: the key as a message gives it, as in `osc.targets[2]`; key: without numbers.
    """
    kinds = get_args(expected) if isinstance(expected, UnionType) else (expected,)
    for kind in kinds:
        if get_origin(kind) is tuple:
            if isinstance(value, list | tuple):
                element = get_args(kind)[0]
                return tuple(_typed(f"{where}[{i}]", key, part, element) for i, part in enumerate(value, start=1))
        elif kind is TargetSettings and isinstance(value, str):
            with _blaming(where):
                table = parse_target(value)
            return _target(where, table)
        elif kind is TargetSettings and isinstance(value, dict):
            return _target(where, value)
        elif is_dataclass(kind):
            if isinstance(value, dict):
                return _made(where, kind, _typed_table(where, key, value))
        # In Python, though not in TOML, true is a whole number.
        elif isinstance(value, bool) and kind is not bool:
            continue
        # Neither infinite nor not a number; nor a whole number that is too large to be converted.
        elif kind is float and isinstance(value, int | float) and abs(value) <= sys.float_info.max:
            return float(value)
        elif kind is not float and isinstance(value, kind) and not is_huge(value):
            return value
    raise wrong(where, " or ".join(_EXPECTED[kind] for kind in kinds if kind is not NoneType), value)


def _target(where: str, table: Mapping[str, object]) -> TargetSettings:
    """The target of a table's keys over those of its profile, if it has one, over the defaults."""
    values = _typed_table(where, _TARGETS, table)
    base = TargetSettings()
    if "profile" in values:
        with _blaming(where):
            base = _profile(profile_path(values.pop("profile")))
    with _blaming_key(where):
        return replace(base, **values)


def _profile(path: Path) -> TargetSettings:
    with _blaming(path):
        values = _typed_table("", _TARGETS, _read(path))
        if "profile" in values:
            raise ConfigError("profile: a profile stands on no other one.")
        return TargetSettings(**values)


def _made(where: str, kind: Any, values: Mapping[str, Any]) -> Any:
    """The dataclass of a table's values. Raises ConfigError for those that are missing or out of range."""
    for key in fields(kind):
        if key.default is MISSING and key.default_factory is MISSING and key.name not in values:
            raise ConfigError(f"{_joined(where, key.name)}: this key is missing.")
    with _blaming_key(where):
        return kind(**values)


@contextmanager
def _blaming(what: object) -> Iterator[None]:
    """Puts before a message whose fault it is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error


@contextmanager
def _blaming_key(where: str) -> Iterator[None]:
    """Puts before a message, which begins with a key, the table that this is a key of."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(_joined(where, str(error))) from error


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _nearest_key(where: str, table: str, name: str) -> str:
    """A sentence: which key was probably meant; what there is, where none is near.

    where, table: as in _typed_table.
    """
    here = _KEYS.get(table, {})
    everywhere = [key for keys in _KEYS.values() for key in keys]

    def full(key: str) -> str:
        if key in here:
            return _joined(where, key)
        found = [f"{other}.{key}" for other, keys in _KEYS.items() if key in keys]
        near_here = [other for other in found if other.partition(".")[0] == table.partition(".")[0]]
        return (near_here or found)[0]

    for known in ([name] if name in everywhere else [], here, everywhere):
        if near := difflib.get_close_matches(name.lower(), known, n=1):
            return f"Did you mean {full(near[0])}?"
    if here:
        return f"There are: {', '.join(map(full, here))}."
    return f"There are the tables {', '.join(_CLASSES)}."
