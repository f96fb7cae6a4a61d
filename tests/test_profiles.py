"""The profiles in configs/osc: that each can be used as it is, where they lie, and what is said where there is none."""

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


def test_there_are_profiles() -> None:
    assert "qlcplus" in profile_names()
    assert profile_names() == sorted(path.stem for path in PROFILES.glob("*.toml"))


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_is_a_target_by_its_name(path: Path) -> None:
    # Loading refuses keys, and values of the address space, that there are not.
    profile = target(f"{path.stem}@")
    assert profile == target(f"{path}@")
    text = path.read_text(encoding="utf-8")
    assert tomllib.loads(text)["port"] == profile.port, "a tool's own, even where it is ours"
    assert text.startswith("# "), "says what it is for"
    assert re.fullmatch(r"[a-z0-9-]+", path.stem), "typed on a command line"
    addresses = [mapped.address for mapped in profile.map]
    assert len(set(addresses)) == len(addresses), "no two values meet at one address"
    assert profile.send or profile.map, "something is sent"


def test_profiles_of_an_installed_package_come_before_those_of_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "realtime_mer"
    monkeypatch.setattr(profiles, "__file__", str(package / "config" / "profiles.py"))
    assert profile_names() == []
    with pytest.raises(
        ConfigError, match=r"there is no OSC profile 'desk'\. There are: none; and any file, by its path"
    ):
        profile_path("desk")
    checkout, installed = tmp_path / "configs" / "osc", package / "osc" / "profiles"
    for folder, port in ((checkout, 1), (installed, 2)):
        folder.mkdir(parents=True)
        (folder / "desk.toml").write_text(f"port = {port}")
        (folder / "README.md").write_text("no profile")
        assert profile_names() == ["desk"]
        assert profile_path("desk") == folder / "desk.toml"
        assert target("desk@") == TargetSettings(port=port)


@pytest.mark.parametrize("name", ["desk", "./desk", "../osc/desk", "fader.TOML", "FADER", "fader ", "\0", "x" * 5000])
def test_a_profile_that_there_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setattr(profiles, "__file__", str(tmp_path / "realtime_mer" / "config" / "profiles.py"))
    folder = tmp_path / "configs" / "osc"
    folder.mkdir(parents=True)
    for other in ("mapper", "fader"):
        (folder / f"{other}.toml").touch()
    with pytest.raises(ConfigError, match=r"^there is no OSC profile .*There are: fader, mapper; and any ") as error:
        profile_path(name)
    assert ("Did you mean fader?" in str(error.value)) == ("fader" in name.lower())
    assert len(str(error.value)) < 250
