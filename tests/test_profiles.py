"""The profiles in configs/osc: each can be used as it is; where they are found; the error for an unknown one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from realtime_mer.config import ConfigError, TargetSettings, load_settings, profiles
from realtime_mer.config.profiles import profile_names, profile_path

PROFILES = Path(__file__).resolve().parents[1] / "configs" / "osc"


def target(text: str) -> TargetSettings:
    (only,) = load_settings(None, {"osc.targets": [text]}).osc.targets
    return only


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_is_a_target_by_its_name(path: Path) -> None:
    profile = target(f"{path.stem}@")
    assert profile == target(f"{path}@")
    text = path.read_text(encoding="utf-8")
    assert tomllib.loads(text)["port"] == profile.port, "written out, even if it is our default"
    assert text.startswith("# "), "a comment with its purpose"
    assert re.fullmatch(r"[a-z0-9-]+", path.stem), "typed on a command line"
    addresses = [mapped.address for mapped in profile.map]
    assert len(set(addresses)) == len(addresses), "each value has an address of its own"
    assert profile.send or profile.map, "something is sent"


def test_profiles_of_an_installed_package_come_before_those_of_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "realtime_mer"
    monkeypatch.setattr(profiles, "__file__", str(package / "config" / "profiles.py"))
    assert profile_names() == []
    with pytest.raises(ConfigError, match=r"there is no OSC profile 'desk'\. There are: none\."):
        profile_path("desk")
    checkout, installed = tmp_path / "configs" / "osc", package / "osc" / "profiles"
    for folder, port in ((checkout, 1), (installed, 2)):
        folder.mkdir(parents=True)
        (folder / "desk.toml").write_text(f"port = {port}")
        (folder / "README.md").write_text("no profile")
        assert profile_names() == ["desk"]
        assert profile_path("desk") == folder / "desk.toml"
        assert target("desk@") == TargetSettings(port=port)


@pytest.mark.parametrize("name", ["desk", "../osc/desk", "fader.TOML", "FADRE", "\0", "x" * 5000])
def test_an_unknown_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setattr(profiles, "__file__", str(tmp_path / "realtime_mer" / "config" / "profiles.py"))
    folder = tmp_path / "configs" / "osc"
    folder.mkdir(parents=True)
    for other in ("mapper", "fader"):
        (folder / f"{other}.toml").touch()
    with pytest.raises(ConfigError, match=r"^there is no OSC profile .*There are: fader, mapper\. ") as error:
        profile_path(name)
    assert ("Did you mean fader?" in str(error.value)) == (name.lower()[:3] == "fad")
    assert len(str(error.value)) < 250
