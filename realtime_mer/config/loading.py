"""From TOML to frozen dataclasses: one loader for the settings of live runs and for training configurations.

msgspec checks types and ranges. This module adds what it leaves out: unknown keys, numbers and texts that TOML cannot
hold, limits for hostile files, and messages that name the key.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from realtime_mer.config.checks import ConfigError, name_in_message, wrong
from realtime_mer.errors import nearest

Settings = TypeVar("Settings")

_MAX_FILE_BYTES = 2**20
# tomllib keeps every prefix of a dotted key: a file that is one long key would fill the memory.
_MAX_DOTS = 50
_EXPECTED: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises ConfigError, without the file's name, if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ConfigError(f"the settings cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"expected a settings file of at most {_MAX_FILE_BYTES // 2**20} MiB, got a larger file.")
    for number, line in enumerate(content.split(b"\n"), start=1):
        # Dots in a row count once: comments have them, keys do not.
        if len(re.findall(rb"\.+", line)) > _MAX_DOTS:
            raise ConfigError(f"expected a settings file, got more than {_MAX_DOTS} dots in line {number}.")
    try:
        # Editors on Windows write a byte-order mark.
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        message = f"expected UTF-8, got {error.reason} at byte {error.start}: save the file as UTF-8."
        raise ConfigError(message) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is not valid TOML: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("a number is too long, or lists are nested too deeply.") from error


def convert(kind: type[Settings], values: Mapping[str, object]) -> Settings:
    """The dataclass with these values. Whole numbers become fractional ones if needed; nothing else is converted.

    Raises ConfigError, naming the key, for unknown and missing keys and for values of another type or range.
    """
    _check(kind, kind, "", values)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _explained(kind, values, error) from error


@contextmanager
def blaming(what: object) -> Iterator[None]:
    """Puts the name of a file or key in front of a ConfigError's message."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error


@cache
def known_keys(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's keys. FILE_KEYS are those that are replaced before the conversion.

    Cached, or a file of thousands of tables takes seconds. Don't change the result.
    """
    hints = get_type_hints(kind, include_extras=True)
    return dict.fromkeys(getattr(kind, "FILE_KEYS", ()), str) | {key.name: hints[key.name] for key in fields(kind)}


def _check(root: Any, kind: Any, key: str, value: object) -> None:
    """Checks what msgspec does not. root: the dataclass of the whole file; kind: the type of this value."""
    table = _table(kind)
    if isinstance(value, Mapping):
        known = known_keys(table) if table else {}
        for name, part in value.items():
            if table and name not in known:
                raise _unknown(root, list(known), key, str(name), part)
            _check(root, known.get(name), _joined(key, str(name)), part)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value, start=1):
            _check(root, table, f"{key}[{number}]", part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise wrong(key, "a finite number", value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise wrong(key, "a number of at most 64 bits", value)
    elif isinstance(value, str) and re.search(r"[\0\ud800-\udfff]", value):
        raise wrong(key, "Unicode text without the character NUL", value)


def _unknown(root: Any, known: list[str], where: str, name: str, value: object) -> ConfigError:
    """The error for a key that does not exist. It suggests the nearest one, of this table or another."""
    here = {key: _joined(where, key) for key in known}
    candidates = here
    is_table = not where and isinstance(value, Mapping)
    if not is_table:
        everywhere = list(_all_keys(root))
        around = [key for key in everywhere if key.partition(".")[0] == where.partition(".")[0]]
        # If several tables have the name, the last entry counts.
        candidates = {key.rpartition(".")[2]: key for key in (*reversed(everywhere), *around)} | here
    near = nearest(name, candidates)
    hint = f"Did you mean {candidates[near]}?" if near else f"There are: {', '.join(here.values())}."
    key = name_in_message(_joined(where, name))
    return ConfigError(f"{key}: there is no such {'table' if is_table else 'key'}. {hint}")


def _all_keys(kind: Any, where: str = "") -> Iterator[str]:
    """All keys of a dataclass and the tables in it, such as `osc.targets.port`."""
    for name, hint in known_keys(kind).items():
        yield _joined(where, name)
        if table := _table(hint):
            yield from _all_keys(table, _joined(where, name))


def _explained(kind: Any, values: Mapping[str, object], error: msgspec.ValidationError) -> ConfigError:
    """msgspec's error in our words. Its text ends in a path such as `$.osc.targets[0].port`."""
    path = re.search(r" - at `\$(\S*)`\Z", str(error))
    key, value, expected = "", cast(Any, values), kind
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path[1] if path else ""):
        if name:
            key, value, expected = _joined(key, name), value[name], known_keys(_table(expected))[name]
        else:
            key, value, expected = f"{key}[{int(index) + 1}]", value[int(index)], _element(expected)
    if error.__cause__ is not None:  # from a __post_init__, which names the key within its table
        return ConfigError(_joined(key, str(error.__cause__)))
    if missing := re.match(r"Object missing required field `(\w+)`", str(error)):
        return ConfigError(f"{_joined(key, missing[1])}: this key is missing.")
    return wrong(key, _expected(expected), value)


def _expected(kind: Any) -> str:
    """A type in words."""
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        return arguments[1].description or _expected(arguments[0]) + _range(arguments[1])
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if get_origin(kind) is tuple:
        return f"a list, each {_expected(arguments[0])}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_expected(part) for part in arguments if part is not NoneType)
    return _EXPECTED.get(kind, "a table")


def _range(meta: msgspec.Meta) -> str:
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge} to {meta.le}"
    bounds = (("of at least", meta.ge), ("more than", meta.gt), ("at most", meta.le))
    return " " + " and ".join(f"{words} {bound}" for words, bound in bounds if bound is not None)


def _table(kind: Any) -> Any:
    """The dataclass that a type is or contains, as in `tuple[TargetSettings, ...]`; None if there is none."""
    return kind if is_dataclass(kind) else next(filter(None, map(_table, get_args(kind))), None)


def _element(kind: Any) -> Any:
    """The type of a list's elements; the list may be optional."""
    return get_args(kind)[0] if get_origin(kind) is tuple else next(filter(None, map(_element, get_args(kind))), None)


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
