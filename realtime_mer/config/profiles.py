"""OSC profiles: what common tools need, each a TOML file with the keys of a `[[osc.targets]]` table."""

from __future__ import annotations

import re
from pathlib import Path

from realtime_mer.config.checks import ConfigError, shown
from realtime_mer.errors import nearest

_SUFFIX = ".toml"


def profile_path(profile: str) -> Path:
    """The file of the profile with this name; a path that ends in `.toml` is returned unchecked.

    Raises ConfigError if there is no profile of this name.
    """
    if profile.endswith(_SUFFIX):
        return Path(profile)
    if name := find_profile(profile):
        return _folder() / f"{name}{_SUFFIX}"
    names = profile_names()
    near = nearest(profile, names)
    hint = f"Did you mean {near}? " if near else ""
    raise ConfigError(
        f"there is no OSC profile {shown(profile)}. {hint}There are: {', '.join(names) or 'none'}. The path of a file "
        f"ends in {_SUFFIX}."
    )


def find_profile(text: str) -> str | None:
    """The profile of this name, whatever its case and punctuation: "QLC+" is qlcplus; None if there is none."""
    name = re.sub(r"[^a-z0-9]", "", text.lower().replace("+", "plus"))
    return name if name in profile_names() else None


def profile_names() -> list[str]:
    """The profiles that come with the program, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob(f"*{_SUFFIX}"))


def _folder() -> Path:
    """The folder in an installed package, or else in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "osc" / "profiles"
    return installed if installed.is_dir() else package.parent / "configs" / "osc"
