"""OSC profiles: how common tools want to be served, each a TOML file with the keys of a `[[osc.targets]]` table."""

from __future__ import annotations

import difflib
from pathlib import Path

from realtime_mer.config.checks import ConfigError, shown

_SUFFIX = ".toml"


def profile_path(profile: str) -> Path:
    """The file of the profile with this name, or at this path, where it ends in `.toml`.

    Raises ConfigError where no profile has the name; whether there is a file at the path remains to be seen.
    """
    if profile.endswith(_SUFFIX):
        return Path(profile)
    names = profile_names()
    if profile in names:
        return _folder() / f"{profile}{_SUFFIX}"
    near = difflib.get_close_matches(profile.lower(), names, n=1)
    cure = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"there is no OSC profile {shown(profile)}. {cure}There are: {', '.join(names) or 'none'}; and any "
        f"file, by its path, which ends in {_SUFFIX}."
    )


def profile_names() -> list[str]:
    """The profiles that come with the program, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob(f"*{_SUFFIX}"))


def _folder() -> Path:
    """Where the wheel has them, or else where a checkout does."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "osc" / "profiles"
    return installed if installed.is_dir() else package.parent / "configs" / "osc"
