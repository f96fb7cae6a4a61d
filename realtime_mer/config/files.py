"""Reads the settings of a live run from TOML files and the command line, and writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from realtime_mer.config.addresses import parse_listen, parse_target, same_computer
from realtime_mer.config.checks import ConfigError, wrong
from realtime_mer.config.loading import blaming, convert, known_keys, read_toml
from realtime_mer.config.osc import TargetSettings
from realtime_mer.config.profiles import find_profile, profile_path
from realtime_mer.config.tables import LiveSettings


def load_settings(path: Path | None, overrides: Mapping[str, object]) -> LiveSettings:
    """The defaults, replaced by the values of the TOML file at `path`, and those by the overrides.

    overrides: values by keys such as `audio.device`; None for no value, if the key allows that.
    Raises ConfigError, naming the key and, if the file is at fault, the file: if it cannot be read, for unknown keys,
    and for values of another type or range.
    """
    from_file: dict[str, Any] = {}
    if path is not None:
        with blaming(path):
            from_file = _read_settings(path)
    values = dict(from_file)
    for key, value in overrides.items():
        table, _, name = key.partition(".")
        if isinstance(values.setdefault(table, {}), dict):
            values[table] = {**values[table], name: value}
    try:
        return _settings(values)
    except ConfigError:
        if path is not None:
            # The file is at fault if it fails without the overrides, too.
            with blaming(path):
                _settings(from_file)
        raise


def settings_toml(settings: LiveSettings) -> str:
    """Every setting in force, as a TOML file that `load_settings` reads. Keys without a value are left out."""
    import tomli_w

    def without_none(keys: list[tuple[str, object]]) -> dict[str, object]:
        return {key: value for key, value in keys if value is not None}

    return tomli_w.dumps(asdict(settings, dict_factory=without_none))


def _read_settings(path: Path) -> dict[str, Any]:
    """The values of a settings file. Raises ConfigError, without the file's name, also if it is a profile."""
    if (name := find_profile(str(path))) and not path.exists():
        raise ConfigError(f"there is no such file, but an OSC profile of this name: give it as --osc-profile {name}")
    try:
        values = read_toml(path)
    except ConfigError as error:
        if "('osc', 'targets')" in str(error):  # tomllib's words for a key that is there twice
            raise ConfigError(f"{error} Write osc.targets either as a list or as [[osc.targets]] tables.") from error
        raise
    if values and values.keys() <= known_keys(TargetSettings).keys():
        raise ConfigError(
            "expected settings, got the keys of an OSC profile: give the file as --osc-profile PATH, or write the keys "
            "below [[osc.targets]]."
        )
    return values


def _settings(values: Mapping[str, Any]) -> LiveSettings:
    osc = values.get("osc")
    if isinstance(osc, dict) and isinstance(osc.get("targets"), list | tuple):
        targets = [_target_table(f"osc.targets[{i}]", target) for i, target in enumerate(osc["targets"], start=1)]
        values = {**values, "osc": {**osc, "targets": targets}}
    settings = convert(LiveSettings, values)
    _check_control_port(settings)
    return settings


def _check_control_port(settings: LiveSettings) -> None:
    """Raises ConfigError if a target is the control port itself: the program would take its values for commands."""
    if settings.control.listen is None:
        return
    host, port = parse_listen(settings.control.listen)
    for number, target in enumerate(settings.osc.targets, start=1):
        sent_here = same_computer(target.host, host) and target.transport == "udp"
        if sent_here and target.port == port:
            raise ConfigError(
                f"control.listen: osc.targets[{number}] sends to port {port} of this computer, so it would arrive as "
                "commands. Give --control another port than --osc."
            )


def _target_table(key: str, target: object) -> dict[str, Any]:
    """A target, given as a text or a table, as a table without a profile. The target's own keys win over its profile's.

    key: the target's, for messages.
    """
    with blaming(key):
        table = parse_target(target) if isinstance(target, str) else target
    if not isinstance(table, dict):
        raise wrong(key, "HOST:PORT in quotes, or a table", target)
    own: dict[str, Any] = dict(table)
    if "profile" not in own:
        return own
    profile = own.pop("profile")
    if not isinstance(profile, str):
        raise wrong(f"{key}.profile", "text in quotes", profile)
    with blaming(key):
        path = profile_path(profile)
        with blaming(path):
            values = read_toml(path)
            if "profile" in values:
                raise ConfigError("profile: a profile cannot have a profile.")
            convert(TargetSettings, values)
    return values | own
