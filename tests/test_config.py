"""Settings of a live run: what files and the command line may say, how they are told what they may not, and that
configs/live.toml says the truth."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import (
    LOG_LEVELS,
    MODES,
    PCM_FORMATS,
    THEMES,
    AudioSettings,
    ConfigError,
    ControlSettings,
    DisplaySettings,
    InputSettings,
    LevelMeterSettings,
    LiveSettings,
    LogSettings,
    MappedValue,
    ModelSettings,
    OscSettings,
    QuadrantSettings,
    RecordingSettings,
    TargetSettings,
    address_text,
    load_settings,
    parse_listen,
    settings_toml,
)
from realtime_mer.config.addresses import parse_target
from realtime_mer.config.osc import MAPPED_TYPES, SMOOTHINGS
from realtime_mer.config.profiles import profile_names, profile_path
from realtime_mer.config.space import MAPPABLE, SPACE

ROOT = Path(__file__).resolve().parents[1]
LIVE_TOML = ROOT / "configs" / "live.toml"


def keys_of(table: str, kind: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a table, and below them those of the tables within it, with their defaults."""
    inner: list[tuple[str, Any]] = []
    if kind is TargetSettings:
        yield f"{table}.profile", None
    for key in fields(kind):
        part = (*get_args(get_type_hints(kind)[key.name]), None)[0]
        if is_dataclass(part):
            inner += [(f"{table}.{key.name}", part)]
        yield f"{table}.{key.name}", key.default
    for name, part in inner:
        yield from keys_of(name, part)


PORTS = st.integers(1, 65_535)
CLASSES: dict[str, Any] = get_type_hints(LiveSettings)
DEFAULTS = {f"{table}.{key.name}": key.default for table, kind in CLASSES.items() for key in fields(kind)}


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "stage.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def load(tmp_path: Path, content: str | bytes, overrides: dict[str, object] | None = None) -> LiveSettings:
    return load_settings(write(tmp_path, content), overrides or {})


# --- what counts


def test_a_file_counts_more_than_the_defaults_and_the_overrides_more_than_the_file(tmp_path: Path) -> None:
    text = """
    [audio]
    device = "UMC204"
    channels = [2, 1]
    buffer_s = 2
    [osc]
    targets = ["10.0.0.5:7000", "10.0.0.6:7000"]
    """
    assert load(tmp_path, text, {"audio.device": "3", "input.loop": True, "osc.targets": ["localhost:1"]}) == (
        LiveSettings(
            audio=AudioSettings(device="3", channels=(2, 1), buffer_s=2.0),
            input=InputSettings(loop=True),
            osc=OscSettings((TargetSettings("localhost", 1),)),
        )
    )
    assert load(tmp_path, text).osc.targets == (TargetSettings("10.0.0.5", 7000), TargetSettings("10.0.0.6", 7000))
    assert load_settings(None, {}) == LiveSettings() == load(tmp_path, "")


def test_whole_numbers_do_for_fractional_ones_and_become_such(tmp_path: Path) -> None:
    settings = load(tmp_path, "[audio]\nlatency = 1\nbuffer_s = 3\n[level]\nsilence_db = -70")
    for value in (settings.audio.latency, settings.audio.buffer_s, settings.level.silence_db):
        assert isinstance(value, float)


def test_an_override_can_bring_none_back(tmp_path: Path) -> None:
    assert load(tmp_path, "[audio]\nrate_hz = 48000", {"audio.rate_hz": None}).audio.rate_hz is None


def test_a_value_that_is_out_of_range_only_with_what_is_overridden_may_stand(tmp_path: Path) -> None:
    assert load(tmp_path, "[audio]\nblock_samples = 1", {"audio.block_samples": 512}).audio.block_samples == 512


@pytest.mark.parametrize("content", ['\ufeff[audio]\ndevice = "Eingang für Gäste"', '[audio]\r\ndevice = "Gäste"\r\n'])
def test_files_as_windows_writes_them_can_be_read(tmp_path: Path, content: str) -> None:
    assert load(tmp_path, content).audio.device in ("Eingang für Gäste", "Gäste")


# --- what may not be


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Unknown names, each with the nearest that there is.
        ("[adio]\ndevice = 'x'", "adio: there is no such table. Did you mean [audio]?"),
        (
            "[lamps]",
            "lamps: there is no such table. There are: audio, input, level, quadrant, osc, control, display, recor",
        ),
        ("[audio]\ndevise = 'x'", "audio.devise: there is no such key. Did you mean audio.device?"),
        ("[audio]\nblock-samples = 64", "audio.block-samples: there is no such key. Did you mean audio.block_samples?"),
        ("[display]\nPLOT = true", "display.PLOT: there is no such key. Did you mean display.plot?"),
        ("[input]\ndevice = 'x'", "input.device: there is no such key. Did you mean audio.device?"),
        ("[audio]\npcm_rate_hz = 8000", "audio.pcm_rate_hz: there is no such key. Did you mean input.pcm_rate_hz?"),
        ("[audio]\ntarget = 'x'", "audio.target: there is no such key. Did you mean osc.targets?"),
        ("[level]\nx = 1", "level.x: there is no such key. There are: level.silence_db, level.quiet_db."),
        ("[level]\n'a\nb' = 1", "this is no TOML: "),
        ('[level]\n"a\\nb" = 1', r"'level.a\nb': there is no such key."),
        ("device = 'x'", "device: this key stands in no table. Did you mean audio.device?"),
        ("'audio.device' = 'x'", "audio.device: this key stands in no table. Did you mean audio.device?"),
        ("audio = 'x'", "audio: a table was expected: write [audio], and its keys below it."),
        ("[[audio]]\ndevice = 'x'", "audio: a table was expected: write [audio], and its keys below it."),
        # Values of another type; nothing is converted.
        ("[audio]\ndevice = 3", "audio.device: a text in quotes was expected, not 3."),
        ("[audio.device]\nx = 1", "audio.device: a text in quotes was expected, not {'x': 1}."),
        ("[audio]\ndevice = 2020-01-01", "audio.device: a text in quotes was expected, not 2020-01-01."),
        ("[audio]\nbuffer_s = '4'", "audio.buffer_s: a finite number was expected, not '4'."),
        ("[audio]\nbuffer_s = true", "audio.buffer_s: a finite number was expected, not true."),
        ("[audio]\nbuffer_s = nan", "audio.buffer_s: a finite number was expected, not nan."),
        ("[audio]\nbuffer_s = 1e999", "audio.buffer_s: a finite number was expected, not inf."),
        ("[audio]\nlatency = -inf", "audio.latency: a text in quotes or a finite number was expected, not -inf."),
        ("[audio]\nlatency = false", "audio.latency: a text in quotes or a finite number was expected, not false."),
        ("[audio]\nrate_hz = 48000.0", "audio.rate_hz: a whole number was expected, not 48000.0."),
        ("[audio]\nrate_hz = true", "audio.rate_hz: a whole number was expected, not true."),
        ("[audio]\nchannels = 1", "audio.channels: a list of whole numbers was expected, not 1."),
        (
            "[audio]\nchannels = [1, true]",
            "audio.channels[2]: a whole number was expected, not true. (The first is [1].)",
        ),
        ("[audio]\nchannels = [[1]]", "audio.channels[1]: a whole number was expected, not [1]."),
        ("[input]\nloop = 1", "input.loop: true or false was expected, not 1."),
        ("[input]\nloop = 'yes'", "input.loop: true or false was expected, not 'yes'."),
        ("[input]\ndevice = ['a', 'b']", "input.device: there is no such key. Did you mean audio.device?"),
        ("[audio]\ndevice = ['a', 'b']", "audio.device: a text in quotes was expected, not ['a', 'b']."),
        # What Python can hardly hold or say.
        (f"[audio]\nrate_hz = 0x{'f' * 5000}", "a whole number was expected, not a number of more than 64 bits."),
        (f"[audio]\nbuffer_s = 0x{'f' * 5000}", "a finite number was expected, not a number of more than 64 bits."),
        (f"[audio]\nchannels = [0x{'f' * 17}]", "a whole number was expected, not a number of more than 64 bits."),
        (f"[audio]\nrate_hz = {'9' * 5000}", "this cannot be read: a number is too long"),
        (f"[audio]\nchannels = {'[' * 100_000}", "this cannot be read: a number is too long, or lists lie too deep"),
        # Ranges.
        ("[audio]\nblock_samples = 63", "audio.block_samples: a number from 64 to 16384 was expected, not 63."),
        ("[level]\nsilence_db = 1", "level.silence_db: a number from -100 to 0 was expected, not 1."),
        # What would take more memory than there is.
        (f"{'a.' * 200_000}a = 1", "this is no settings file: line 1 has more than 50 dots."),
        (f"[osc]\n[{' . '.join(['a'] * 52)}]", "this is no settings file: line 2 has more than 50 dots."),
        # No TOML.
        ("[audio", "this is no TOML: "),
        ("[audio]\ndevice = 'x'\ndevice = 'y'", "this is no TOML: "),
        (b"\xff\xfe[\0a\0u\0", "this file is not in UTF-8 (invalid start byte at byte 0): save it as UTF-8."),
        (b"#" * (2**20 + 1), "this is no settings file: it is larger than 1 MiB."),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'stage.toml'}: ")
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    text = b'[audio]\ndevice = "3"\n'
    assert load(tmp_path, text + b"#" * (2**20 - len(text))).audio.device == "3"


def test_long_values_are_cut_short_in_messages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audio\.rate_hz: a whole number was expected, not 'x+\.\.\.x+'\.") as error:
        load(tmp_path, f"[audio]\nrate_hz = '{'x' * 100_000}'")
    assert len(str(error.value)) < 200 + len(str(tmp_path))
    tables = ", ".join(f"{key * 80} = {{{', '.join(f'{k * 80} = 1' for k in 'abcd')}}}" for key in "abcd")
    with pytest.raises(ConfigError, match=r"audio\.rate_hz: a whole number was expected, not \{.*\.\.\.\.$") as error:
        load(tmp_path, f"[audio]\nrate_hz = {{{tables}}}")
    assert len(str(error.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["missing.toml", ".", "x" * 5000, "\0"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="the settings cannot be read: ") as error:
        load_settings(tmp_path / name, {})
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("profile", profile_names())
def test_a_profile_given_as_a_settings_file_is_told_how_to_be_given(profile: str) -> None:
    with pytest.raises(ConfigError, match="these are the keys of an OSC profile: give the file as --osc-profile PATH"):
        load_settings(profile_path(profile), {})
    with pytest.raises(ConfigError, match=f"there is no such file, but an OSC profile .*: --osc-profile {profile}$"):
        load_settings(Path(profile), {})


@pytest.mark.parametrize(
    "beginning", ["[osc]\ntargets = ['a:1']\n", "osc.targets = []\n", "[osc]\n  targets=['qlcplus@']"]
)
def test_targets_written_in_both_ways_are_told_to_be_written_in_one(tmp_path: Path, beginning: str) -> None:
    with pytest.raises(ConfigError, match=r"osc.targets stands there twice, as targets = \[...\] and as \[\[osc.targ"):
        load(tmp_path, f"{beginning}\n# more\n[[ osc.targets ]]\nhost = 'b'\n")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"audio.devise": "x"}, "audio.devise: there is no such key. Did you mean audio.device?"),
        ({"adio.device": "x"}, "adio.device: there is no such key. Did you mean audio.device?"),
        ({"device": "x"}, "device: there is no such key. Did you mean audio.device?"),
        ({"audio": {}}, "audio: there is no such key. There are the tables audio, input, "),
        ({"osc.targets": None}, "osc.targets: a list, each HOST:PORT in quotes or a table headed [[osc.targets]], was"),
        ({"osc.targets": ["9000"]}, "osc.targets[1]: '9000' is no OSC target: it names no host"),
        ({"audio.device": None}, "audio.device: a text in quotes was expected, not None."),
        ({"audio.buffer_s": "4"}, "audio.buffer_s: a finite number was expected, not '4'."),
        ({"audio.buffer_s": math.nan}, "audio.buffer_s: a finite number was expected, not nan."),
        ({"audio.rate_hz": 1}, "audio.rate_hz: a number from 8000 to 384000 was expected, not 1."),
    ],
)
def test_mistakes_on_the_command_line_are_named_and_not_blamed_on_the_file(
    tmp_path: Path, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "[audio]\ndevice = 'x'", overrides)
    assert str(error.value).startswith(message)


def test_a_mistake_in_the_file_is_blamed_on_it_beside_one_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage\.toml: audio\.rate_hz: "):
        load(tmp_path, "[audio]\nrate_hz = 1", {"input.pcm_rate_hz": 1})


# --- OSC targets


PROFILE = """
port = 7700
prefix = ""
send = ["event/*"]
rate_hz = 25
[[map]]
value = "smooth/unipolar/valence"
address = "/fader/1"
[[map]]
value = "smooth/unipolar/arousal"
address = "/fader/2"
"""
FADERS = (MappedValue("smooth/unipolar/valence", "/fader/1"), MappedValue("smooth/unipolar/arousal", "/fader/2"))
FADER_DESK = TargetSettings(port=7700, prefix="", send=("event/*",), rate_hz=25.0, map=FADERS)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "fader@desk.toml"
    path.write_text(PROFILE)
    return path


def target(overrides: dict[str, object]) -> TargetSettings:
    (only,) = load_settings(None, {"osc.targets": [overrides]}).osc.targets
    return only


def test_a_target_may_be_a_text_or_a_table(tmp_path: Path) -> None:
    mapped = MappedValue("level/meter", "/vu", scale=255.0, low=0.0, type="int")
    desk = TargetSettings("desk", 8000, "tcp", home=(1.0, -0.5), map=(mapped, MappedValue("held", "/held")))
    mixed = """
    [osc]
    delay_s = 1
    targets = [
        "[::1]:7000",
        {host = "desk", port = 8000, transport = "tcp", home = [1, -0.5], map = [
            {value = "level/meter", address = "/vu", scale = 255, low = 0, type = "int"},
            {value = "held", address = "/held"}]},
        {},
    ]
    """
    assert load(tmp_path, mixed).osc == OscSettings((TargetSettings("::1", 7000), desk, TargetSettings()), 1.0)
    tables = """
    [[osc.targets]]
    host = "desk"
    port = 8000
    transport = "tcp"
    home = [1, -0.5]
    [[osc.targets.map]]
    value = "level/meter"
    address = "/vu"
    scale = 255
    low = 0
    type = "int"
    [[osc.targets.map]]
    value = "held"
    address = "/held"
    [[osc.targets]]
    """
    assert load(tmp_path, tables).osc == OscSettings((desk, TargetSettings()))


def test_a_profile_is_what_a_targets_own_keys_stand_on(tmp_path: Path, profile: Path) -> None:
    assert target({"profile": str(profile)}) == FADER_DESK
    changed = {"profile": str(profile), "host": "desk", "rate_hz": 50, "prefix": "/a"}
    assert target(changed) == replace(FADER_DESK, host="desk", rate_hz=50.0, prefix="/a")
    own = {"value": "valence", "address": "/v"}
    assert target({"profile": str(profile), "map": [own]}).map == (MappedValue("valence", "/v"),), "as a whole"
    assert target({"profile": str(profile), "map": [], "send": []}) == replace(FADER_DESK, map=(), send=())
    text = f"[[osc.targets]]\nprofile = '{profile}'\nport = 1"
    assert load(tmp_path, text).osc.targets == (replace(FADER_DESK, port=1),)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("", "127.0.0.1", 7700),
        ("desk", "desk", 7700),
        ("[::1]", "::1", 7700),
        ("desk:9000", "desk", 9000),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_a_text_may_name_a_profile_and_where_it_is(profile: Path, address: str, host: str, port: int) -> None:
    settings = load_settings(None, {"osc.targets": [f"{profile}@{address}"]})
    assert settings.osc.targets == (replace(FADER_DESK, host=host, port=port),)


def test_what_is_written_out_needs_no_profile(tmp_path: Path, profile: Path) -> None:
    settings = load_settings(None, {"osc.targets": [f"{profile}@desk"]})
    profile.unlink()
    assert load(tmp_path, settings_toml(settings)) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Whole keys, counted from 1.
        ("rat_hz = 1", "osc.targets[2].rat_hz: there is no such key. Did you mean osc.targets[2].rate_hz?"),
        ("scale = 1", "osc.targets[2].scale: there is no such key. Did you mean osc.targets.map.scale?"),
        ("x = 1", "osc.targets[2].x: there is no such key. There are: osc.targets[2].profile, osc.targets[2].host, "),
        ("port = '1'", "osc.targets[2].port: a whole number was expected, not '1'. (The first is [1].)"),
        ("port = 0", "osc.targets[2].port: a number from 1 to 65535 was expected, not 0."),
        (
            "host = 'desk:1'",
            "osc.targets[2].host: a name, or an address without brackets and port, was expected, not 'd",
        ),
        ("send = 'valence'", "osc.targets[2].send: a list of texts in quotes was expected, not 'valence'."),
        ("send = ['*', 1]", "osc.targets[2].send[2]: a text in quotes was expected, not 1."),
        ("home = 0", "osc.targets[2].home: a list of numbers was expected, not 0."),
        ("home = ['left', 0]", "osc.targets[2].home[1]: a finite number was expected, not 'left'."),
        ("home = [0, 0, 0]", "osc.targets[2].home: valence and arousal, two numbers from -1 to 1, was expected, not"),
        ("map = 1", "osc.targets[2].map: a list of tables, each headed [[osc.targets.map]], was expected, not 1."),
        ("map = ['valence']", "osc.targets[2].map[1]: a table was expected, not 'valence'."),
        ("map = [{value = 'valence'}]", "osc.targets[2].map[1].address: this key is missing."),
        ("map = [{address = '/a'}]", "osc.targets[2].map[1].value: this key is missing."),
        (
            "[osc.targets.map]",
            "osc.targets[2].map: a list of tables, each headed [[osc.targets.map]], was expected, not",
        ),
        ("[[osc.targets.map]]\nvalue = 1", "osc.targets[2].map[1].value: a text in quotes was expected, not 1."),
        (
            "[[osc.targets.map]]\nvalue = 'valence'\naddress = '/a'\n[[osc.targets.map]]\nscale = true",
            "osc.targets[2].map[2].scale: a finite number was expected, not true.",
        ),
        (
            "[[osc.targets.map]]\nvalue = 'valence'\naddress = '/a'\nlow = 1\nhigh = 0",
            "osc.targets[2].map[1].high: a number not below low (1) was expected, not 0.0.",
        ),
        (
            "[[osc.targets.map]]\nvalue = 'valence'\naddress = '/a'\nrate_hz = 0",
            "osc.targets[2].map[1].rate_hz: there is no such key. Did you mean osc.targets.rate_hz?",
        ),
        (
            "[[osc.targets.map]]\nvalue = 'valence'\nadress = '/a'",
            "osc.targets[2].map[1].adress: there is no such key. Did you mean osc.targets[2].map[1].address?",
        ),
        ("profile = 1", "osc.targets[2].profile: a text in quotes was expected, not 1."),
        ("profile = 'missing.toml'", "osc.targets[2]: missing.toml: the settings cannot be read: "),
    ],
)
def test_mistakes_in_a_target_are_named_with_the_whole_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"[[osc.targets]]\n[[osc.targets]]\n{text}")
    assert str(error.value).startswith(f"{tmp_path / 'stage.toml'}: {message}")
    assert str(error.value).endswith(" (The first is [1].)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[osc]\ntargets = 'a:1'",
            "osc.targets: a list, each HOST:PORT in quotes or a table headed [[osc.targets]], was",
        ),
        (
            "[osc.targets]\nport = 1",
            "osc.targets: a list, each HOST:PORT in quotes or a table headed [[osc.targets]], w",
        ),
        ("[osc]\ntargets = [9000]", "osc.targets[1]: HOST:PORT in quotes, or a table, was expected, not 9000."),
        ("[osc]\ntargets = ['9000']", "osc.targets[1]: '9000' is no OSC target: it names no host"),
        ("[osc]\nhost = 'desk'", "osc.host: there is no such key. Did you mean osc.targets.host?"),
        ("[osc]\nrate_hz = 30", "osc.rate_hz: there is no such key. Did you mean osc.targets.rate_hz?"),
        ("[osc]\nprofile = 'qlcplus'", "osc.profile: there is no such key. Did you mean osc.targets.profile?"),
        ("[input]\nrate_hz = 30", "input.rate_hz: there is no such key. Did you mean audio.rate_hz?"),
        ("[audio]\nhost_api = ['a', 'b']", "audio.host_api: a text in quotes was expected, not ['a', 'b']."),
        ("[osc]\nquery = 9010", "osc.query: a text in quotes was expected, not 9010."),
        (
            "[osc]\nquery = 'here'",
            "osc.query: 'here' is no place to listen at: it names no port. Expected PORT or HOST:",
        ),
        (
            "[control]\nlisten = '0'",
            "control.listen: '0' is no place to listen at: the port must be a whole number from",
        ),
    ],
)
def test_mistakes_around_targets_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'stage.toml'}: {message}")
    assert "The first is" not in str(error.value), "there is but one, or none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 0", "port: a number from 1 to 65535 was expected, not 0."),
        ("prot = 1", "prot: there is no such key. Did you mean port?"),
        ("[[map]]\nvalue = 1", "map[1].value: a text in quotes was expected, not 1."),
        ("[[map]]\nvalue = 'valence'", "map[1].address: this key is missing."),
        ("[osc]\ndelay_s = 1", "osc: there is no such key. "),
        ("profile = 'qlcplus'", "profile: a profile stands on no other one."),
        ("port", "this is no TOML: "),
    ],
)
def test_mistakes_in_a_profile_are_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        target({"profile": str(path), "port": 1})
    assert str(error.value).startswith(f"osc.targets[1]: {path}: {message}")
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"[[osc.targets]]\nprofile = '{path}'")
    assert str(error.value).startswith(f"{tmp_path / 'stage.toml'}: osc.targets[1]: {path}: {message}")


WORDS = st.sampled_from(
    [*(key.name for key in fields(TargetSettings)), "profile", "value", "address", "x.toml", "a:1", ""]
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS | st.sampled_from(MAPPABLE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JUNK | st.lists(st.dictionaries(WORDS, JUNK, max_size=3), min_size=1, max_size=2))
def test_whatever_stands_for_targets_is_settings_or_a_mistake_that_is_named(value: object) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(load_settings(None, {"osc.targets": value}), LiveSettings)


# --- hosts and ports


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("localhost:1", "localhost", 1),
        ("lighting-desk.local:65535", "lighting-desk.local", 65_535),
        ("[::1]:9000", "::1", 9000),
        ("[fe80::1%eth0]:7700", "fe80::1%eth0", 7700),
        ("bühne:9000", "bühne", 9000),
    ],
)
def test_a_text_names_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_target(text) == {"host": host, "port": port}
    assert parse_listen(text) == (host, port)
    assert address_text(host, port) == text


NO_ADDRESSES = [
    ("", "names no host"),
    ("127.0.0.1", "names no port"),
    ("localhost", "names no port"),
    (":9000", "names no host"),
    ("localhost:", "the port must be"),
    ("localhost:0", "the port must be"),
    ("localhost:65536", "the port must be"),
    ("localhost:-1", "the port must be"),
    ("localhost:+9", "the port must be"),
    ("localhost:9 ", "the port must be"),
    ("localhost:9\n", "the port must be"),
    ("localhost:٩٠٠٠", "the port must be"),
    ("localhost:" + "9" * 5000, "the port must be"),
    ("localhost:osc", "the port must be"),
    ("[::1]:", "the port must be"),
    ("[::1]", "names no port"),
    ("::1:9000", "square brackets"),
    ("fe80::1", "square brackets"),
    ("2001:db8:0:0:0:0:0:1:9000", "square brackets"),
    ("[127.0.0.1]:9000", "no IPv6 address"),
    ("[]:9000", "no IPv6 address"),
    ("osc.udp://localhost:9000", "no host name"),
    ("two words:9000", "no host name"),
    ("nul\x00:9000", "no host name"),
    ("a:b:9000", "no host name"),
]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *NO_ADDRESSES,
        ("9000", "names no host"),
        ("@", "names no profile"),
        ("@a:1", "names no profile"),
        ("desk@9000", "names no host"),
        ("desk@:9000", "names no host"),
        ("desk@a:", "the port must be"),
        ("desk@a:0", "the port must be"),
        ("desk@::1", "square brackets"),
        ("desk@two words", "no host name"),
    ],
)
def test_what_is_no_target_is_refused_with_the_reason_and_the_form(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        parse_target(text)
    assert " is no OSC target: " in str(error.value)
    assert str(error.value).endswith(
        "Expected [PROFILE@]HOST:PORT, as in 127.0.0.1:9000, [::1]:9000 or qlcplus@127.0.0.1:7700."
    )
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("text", ["qlcplus", "QLCplus"])
def test_a_profile_given_as_a_target_is_told_how_to_be_given(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^'{text}' is no OSC target, but a profile: write qlcplus@ for it as it is"):
        parse_target(text)
    assert parse_target("qlcplus@") == {"profile": "qlcplus"}


@pytest.mark.parametrize(("text", "why"), [*NO_ADDRESSES, ("0", "the port must be"), ("99999", "the port must be")])
def test_where_nobody_can_listen_is_refused_with_the_reason_and_the_form(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        parse_listen(text)
    assert " is no place to listen at: " in str(error.value)
    assert str(error.value).endswith("Expected PORT or HOST:PORT, as in 9001, 0.0.0.0:9001 or [::1]:9001.")


def test_a_port_alone_listens_to_this_computer_only() -> None:
    assert parse_listen("9001") == ("127.0.0.1", 9001)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert 1 <= parse_listen(text)[1] <= 65_535
    with contextlib.suppress(ConfigError):
        assert set(parse_target(text)) <= {"profile", "host", "port"}


@given(st.ip_addresses().map(str), PORTS)
def test_an_address_is_written_as_it_is_read(host: str, port: int) -> None:
    text = address_text(host, port)
    assert parse_listen(text) == (host, port)
    assert parse_target(f"a@b@{text}") == {"profile": "a@b", "host": host, "port": port}
    assert (text[0] == "[") == (ipaddress.ip_address(host).version == 6)


# --- ranges


@pytest.mark.parametrize(
    ("kind", "key", "allowed", "refused", "message"),
    [
        (AudioSettings, "block_samples", (64, 16_384, None), (63, 16_385, 0, -64), "from 64 to 16384"),
        (AudioSettings, "rate_hz", (8_000, 384_000, None), (7_999, 384_001), "from 8000 to 384000"),
        (AudioSettings, "buffer_s", (0.5, 60.0), (0.49, 60.01, math.nan, math.inf), "from 0.5 to 60"),
        (
            AudioSettings,
            "latency",
            ("low", "high", 0.001, 10.0),
            ("Low", "", 0.0, -1.0, 10.01, math.nan, math.inf),
            "'low', 'high', or seconds (more than 0, at most 10)",
        ),
        (
            AudioSettings,
            "channels",
            (None, (1,), (2, 1), tuple(range(1, 9)), (64,)),
            ((), (0,), (-1, 1), (1, 1), tuple(range(1, 10))),
            "a list of 1 to 8 different channels, counted from 1,",
        ),
        (AudioSettings, "device", ("default", "3", "ü"), ("", " \t"), "a text that is not empty"),
        (AudioSettings, "host_api", ("ALSA", None), ("", " "), "a text that is not empty"),
        (AudioSettings, "device", ("d",), ("a\0b", "caf\udce9"), "a text in Unicode, without the character NUL,"),
        (InputSettings, "file", ("-", "song.flac", None), ("", " "), "a text that is not empty"),
        (InputSettings, "pcm_format", PCM_FORMATS, ("s16", "", "S16LE"), "one of 's16le', 's24le', 's32le', 'f"),
        (InputSettings, "pcm_rate_hz", (8_000, 384_000), (7_999, 384_001), "from 8000 to 384000"),
        (InputSettings, "pcm_channels", (1, 8), (0, 9), "from 1 to 8"),
        (LevelMeterSettings, "silence_db", (-100.0, 0.0), (-100.1, 0.1, math.nan), " was expected"),
        (
            LevelMeterSettings,
            "quiet_db",
            (-100.0, 0.0),
            (-100.1, 0.1, math.nan),
            "a number from -100 to 0 was expected",
        ),
        (QuadrantSettings, "hysteresis", (0.0, 0.5), (-0.01, 0.51, math.nan), "from 0 to 0.5"),
        (QuadrantSettings, "dwell_s", (0.0, 60.0), (-0.1, 60.1, math.nan), "from 0 to 60"),
        (DisplaySettings, "mode", (None, *MODES), ("", "Stage"), "one of 'operator', 'stage'"),
        (DisplaySettings, "theme", (None, *THEMES), ("", "black"), "one of 'dark', 'light'"),
        (DisplaySettings, "screen", (None, 1, 16), (0, 17), "from 1 to 16"),
        (DisplaySettings, "trail_s", (1.0, 120.0), (0.9, 120.1, math.nan), "from 1 to 120"),
        (OscSettings, "delay_s", (0.0, 10.0), (-0.1, 10.1, math.nan, math.inf), "from 0 to 10"),
        (OscSettings, "query", (None, "1", "a:1", "[::1]:1"), ("", "a", "0", "65536"), "is no place to listen at: "),
        (ControlSettings, "listen", (None, "1", "a:1", "[::1]:1"), ("", "a", ":1"), "is no place to listen at: "),
        (
            TargetSettings,
            "host",
            ("127.0.0.1", "::1", "fe80::1%eth0", "desk.local", "bühne"),
            ("a:1", "[::1]", "two words", "a/b", "me@desk", "a\u202e"),
            "a name, or an address without brackets and port,",
        ),
        (TargetSettings, "host", (), ("", " "), "a text that is not empty"),
        (TargetSettings, "port", (1, 65_535), (0, 65_536, -1), "from 1 to 65535"),
        (TargetSettings, "transport", ("udp", "tcp"), ("UDP", ""), "one of 'udp', 'broadcast', 'multicast', 'tcp'"),
        (TargetSettings, "ttl", (0, 255), (-1, 256), "from 0 to 255"),
        (TargetSettings, "interface", (None,), ("", " "), "a text that is not empty"),
        (
            TargetSettings,
            "prefix",
            ("", "/mer", "/a/b-c", "/" + "x" * 199),
            ("mer", "/", "/mer/", "/a//b", "/a b", "/ä", "/a*", "/a?", "/{a}", "/[a]", "/a,b", "/#", "/" + "x" * 200),
            "an OSC address such as '/lights/1'",
        ),
        (
            TargetSettings,
            "send",
            ((), ("*",), ("valence", "smooth/*")),
            (("valense",), ("*", ""), ("/mer/va",), ("[!\udce9]*",)),
            " was ",
        ),
        (TargetSettings, "rate_hz", (1.0, 120.0), (0.9, 120.1, math.nan), "from 1 to 120"),
        (
            TargetSettings,
            "smoothing",
            SMOOTHINGS,
            ("", "Linear", "one_euro"),
            "one of 'none', 'linear', 'spring', 'one-",
        ),
        (TargetSettings, "settle_s", (None, 0.05, 60.0), (0.04, 60.1, math.nan), "from 0.05 to 60"),
        (TargetSettings, "speed", (0.0, 10.0), (-0.1, 10.1, math.nan), "from 0 to 10"),
        (TargetSettings, "home_after_s", (None, 1.0, 3600.0), (0.9, 3600.1, math.nan), "from 1 to 3600"),
        (
            TargetSettings,
            "home",
            ((0.0, 0.0), (-1.0, 1.0)),
            ((), (0.0,), (0.0, 0.0, 0.0), (1.1, 0.0), (0.0, math.nan)),
            "valence and arousal, two numbers from -1 to 1,",
        ),
        (TargetSettings, "glide_s", (0.05, 600.0), (0.04, 600.1, math.nan), "from 0.05 to 600"),
        (RecordingSettings, "directory", ("x", None), ("", " "), "a text that is not empty"),
        (ModelSettings, "checkpoint", ("x", None), ("", " "), "a text that is not empty"),
    ],
)
def test_values_out_of_range_are_refused(
    kind: Any, key: str, allowed: tuple[Any, ...], refused: tuple[Any, ...], message: str
) -> None:
    for value in allowed:
        assert getattr(kind(**{key: value}), key) == value
    for value in refused:
        with pytest.raises(ConfigError, match=f"^{re.escape(key)}: .*{re.escape(message)}"):
            kind(**{key: value})


@pytest.mark.parametrize(
    ("host", "transport", "interface", "refused"),
    [
        ("239.1.2.3", "multicast", None, ""),
        ("239.1.2.3", "multicast", "192.0.2.7", ""),
        ("ff12::1", "multicast", "eth0", ""),
        ("group.local", "multicast", None, ""),
        ("192.0.2.255", "broadcast", "eth0", ""),
        ("everybody.local", "broadcast", "192.0.2.7", ""),
        ("192.0.2.7", "multicast", None, "host: a multicast group, such as 239.1.2.3, was expected, not '192.0.2.7'."),
        ("2001:db8::1", "multicast", None, "host: a multicast group, such as 239.1.2.3, was expected"),
        ("ff02::1", "broadcast", None, "host: an IPv4 broadcast address, since IPv6 has none, was expected"),
        ("ff12::1", "multicast", "192.0.2.7", "interface: a name such as 'eth0', with an IPv6 group, was expected"),
        ("192.0.2.7", "udp", "eth0", "interface: none, with transport 'udp', was expected, not 'eth0'."),
        ("192.0.2.7", "tcp", "eth0", "interface: none, with transport 'tcp', was expected, not 'eth0'."),
    ],
)
def test_an_address_that_cannot_serve_its_transport_is_refused(
    host: str, transport: str, interface: str | None, refused: str
) -> None:
    if refused:
        with pytest.raises(ConfigError, match=re.escape(refused)):
            TargetSettings(host=host, transport=transport, interface=interface)
    else:
        assert TargetSettings(host=host, transport=transport, interface=interface).transport == transport


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"value": "smooth/valense"}, "not 'smooth/valense'. Did you mean smooth/valence?"),
        ({"value": "va"}, "value: the name of one number of the address space was expected, not 'va'."),
        ({"value": "status/source"}, "not 'status/source'."),
        ({"value": ""}, "not ''. There are: valence, "),
        ({"address": "lights"}, "address: an OSC address such as '/lights/1' was expected, not 'lights'."),
        ({"address": ""}, "address: an OSC address such as '/lights/1' was expected, not ''."),
        ({"scale": 1e7}, "scale: a number from "),
        ({"scale": math.nan}, "scale: a number from "),
        ({"offset": -1e7}, "offset: a number from "),
        ({"curve": 0.0}, "curve: a number from 0.1 to 10 was expected, not 0.0."),
        ({"low": 1e7}, "low: a number from "),
        ({"high": math.inf}, "high: a number from "),
        ({"low": 1.0, "high": 0.5}, "high: a number not below low (1) was expected, not 0.5."),
        ({"type": "double"}, "type: one of 'float', 'int' was expected, not 'double'."),
    ],
)
def test_a_mapped_value_that_cannot_be_is_refused(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"value": "valence", "address": "/a", "low": 0.0, "high": 255.0}
    assert MappedValue(**given).type == "float"
    with pytest.raises(ConfigError, match=re.escape(message)):
        MappedValue(**given | changed)


@pytest.mark.parametrize("value", MAPPABLE)
def test_everything_that_is_one_number_can_be_mapped_and_nothing_else(value: str) -> None:
    assert MappedValue(value, "/a").value == value
    assert {address.types for address in SPACE if address.name in MAPPABLE} == {"f", "i"}


# --- writing them out

TEXTS = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)
RATES_HZ = st.integers(8_000, 384_000)
CHANNELS = st.lists(st.integers(1, 256), min_size=1, max_size=8, unique=True).map(tuple)
LEVELS_DB = st.builds(LevelMeterSettings, st.floats(-100, 0), st.floats(-100, 0))
QUADRANTS = st.builds(QuadrantSettings, st.floats(0, 0.5), st.floats(0, 60))
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"], include_characters="-._%"), min_size=1)
HOSTS = NAMES | st.ip_addresses().map(str)
LISTEN = st.none() | PORTS.map(str) | st.builds(address_text, HOSTS, PORTS)
PART = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#*,/?[]{}"), min_size=1, max_size=9
)
ADDRESSES = st.lists(PART, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
MILLIONS = st.floats(-1e6, 1e6)
MAPPED = st.builds(
    lambda low, high, **keys: MappedValue(
        low=low, high=high if low is None or high is None else max(low, high), **keys
    ),
    value=st.sampled_from(MAPPABLE),
    address=ADDRESSES,
    scale=MILLIONS,
    offset=MILLIONS,
    curve=st.floats(0.1, 10),
    low=st.none() | MILLIONS,
    high=st.none() | MILLIONS,
    type=st.sampled_from(MAPPED_TYPES),
)
# Host, transport and interface have to fit.
NETWORKS = st.one_of(
    st.tuples(HOSTS, st.sampled_from(["udp", "tcp"]), st.none()),
    st.tuples(st.ip_addresses(network="224.0.0.0/4").map(str), st.just("multicast"), st.none() | TEXTS),
    st.tuples(st.ip_addresses(network="ff00::/8").map(str), st.just("multicast"), st.none() | st.just("eth0")),
    st.tuples(st.ip_addresses(v=4).map(str), st.just("broadcast"), st.none() | TEXTS),
)
TARGETS = st.builds(
    lambda network, port, *values: TargetSettings(network[0], port, network[1], values[0], network[2], *values[1:]),
    NETWORKS,
    PORTS,
    st.integers(0, 255),
    st.just("") | ADDRESSES,
    st.lists(st.sampled_from([address.name for address in SPACE] + ["*", "smooth/*", "*valence"]), max_size=3).map(
        tuple
    ),
    st.booleans(),
    st.floats(1, 120),
    st.booleans(),
    st.sampled_from(SMOOTHINGS),
    st.none() | st.floats(0.05, 60),
    st.floats(0, 10),
    st.none() | st.floats(1, 3600),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    st.floats(0.05, 600),
    st.lists(MAPPED, max_size=3).map(tuple),
)
SETTINGS = st.builds(
    LiveSettings,
    st.builds(
        AudioSettings,
        TEXTS,
        st.none() | TEXTS,
        st.none() | CHANNELS,
        st.none() | RATES_HZ,
        st.none() | st.integers(64, 16_384),
        st.sampled_from(["low", "high"]) | st.floats(0, 10, exclude_min=True),
        st.floats(0.5, 60),
    ),
    st.builds(
        InputSettings,
        st.none() | TEXTS,
        st.booleans(),
        st.booleans(),
        st.sampled_from(PCM_FORMATS),
        RATES_HZ,
        st.integers(1, 8),
    ),
    LEVELS_DB,
    QUADRANTS,
    st.builds(OscSettings, st.lists(TARGETS, max_size=3).map(tuple), st.floats(0, 10), LISTEN),
    st.builds(ControlSettings, LISTEN),
    st.builds(DisplaySettings, st.booleans(), st.booleans()),
    st.builds(RecordingSettings, st.none() | TEXTS),
    st.builds(LogSettings, st.none() | TEXTS, st.sampled_from(LOG_LEVELS)),
    st.builds(ModelSettings, st.none() | TEXTS),
)


@given(SETTINGS)
def test_what_is_written_out_is_read_back(tmp_path_factory: pytest.TempPathFactory, settings: LiveSettings) -> None:
    path = tmp_path_factory.getbasetemp() / "written.toml"
    path.write_bytes(settings_toml(settings).encode())
    assert load_settings(path, {}) == settings


def test_everything_in_force_is_written_out_but_what_is_none() -> None:
    mapped = MappedValue("valence", "/a", high=1.0)
    settings = LiveSettings(osc=OscSettings((TargetSettings(map=(mapped,), settle_s=1.0),)))
    written = tomllib.loads(settings_toml(settings))
    assert {f"{table}.{key}" for table, keys in written.items() for key in keys} == {
        key for key, default in DEFAULTS.items() if default is not None
    }
    (target,) = written["osc"]["targets"]
    assert set(target) == {key.name for key in fields(TargetSettings)} - {"interface", "home_after_s"}
    assert [set(entry) for entry in target["map"]] == [{key.name for key in fields(MappedValue)} - {"low"}]


def test_settings_that_were_recorded_before_targets_had_any_are_read(tmp_path: Path) -> None:
    text = """
    [audio]
    device = "default"
    [osc]
    targets = [
        "127.0.0.1:9000",
        "[::1]:7000",
    ]
    [recording]
    """
    assert load(tmp_path, text) == LiveSettings(osc=OscSettings((TargetSettings(), TargetSettings("::1", 7000))))


# --- configs/live.toml

KEY_LINE = re.compile(r"# ([a-z_]+) = (.*?)(  # example)?")
TABLE_LINE = re.compile(r"# (\[\[[a-z.]+\]\])")
# Every key that the file has a line for, with its default (MISSING where it has to be given), in its order.
KEYS = {key: default for table, kind in CLASSES.items() for key, default in keys_of(table, kind)}
del KEYS["osc.targets.map"]


def live_toml() -> list[str]:
    return LIVE_TOML.read_text(encoding="utf-8").splitlines()


def documented(*, examples: bool) -> dict[str, Any]:
    """What the key lines say: those with defaults, or those with examples."""
    values, table = {}, ""
    for line in live_toml():
        if head := re.match(r"(?:# )?\[+([a-z.]+)\]", line):
            table = head[1]
        elif (key_line := KEY_LINE.fullmatch(line)) and (key_line[3] is not None) == examples:
            values[f"{table}.{key_line[1]}"] = tomllib.loads(line.removeprefix("# "))[key_line[1]]
    return values


def documented_table(table: str, *, examples: bool) -> dict[str, Any]:
    """The same of one table alone, by its own keys."""
    values = {tuple(key.rsplit(".", 1)): value for key, value in documented(examples=examples).items()}
    return {name: value for (of, name), value in values.items() if of == table}


def documented_settings(*, examples: bool) -> dict[str, Any]:
    """The same without the tables that stand instead of `osc.targets`."""
    return {key: value for key, value in documented(examples=examples).items() if key.rsplit(".", 1)[0] in CLASSES}


def test_the_documentation_as_it_stands_changes_nothing() -> None:
    assert load_settings(LIVE_TOML, {}) == LiveSettings()
    assert list(tomllib.loads("\n".join(live_toml()))) == list(CLASSES)


def test_the_documentation_has_every_key_with_its_default() -> None:
    assert MISSING not in DEFAULTS.values()
    with_default = {key: default for key, default in KEYS.items() if default not in (None, MISSING)}
    found = documented(examples=False)
    assert list(found) == list(with_default), "in the order of the dataclasses"
    assert load_settings(None, documented_settings(examples=False)) == LiveSettings()
    # A target's text is another way to write it.
    del found["osc.targets"], with_default["osc.targets"]
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in found.items()} == with_default


def test_the_documentation_has_a_good_example_for_every_key_without_default() -> None:
    assert list(documented(examples=True)) == [key for key, default in KEYS.items() if default in (None, MISSING)]
    for key, value in documented_settings(examples=True).items():
        assert load_settings(None, {key: value}) != LiveSettings()
    for key, value in documented_table("osc.targets", examples=True).items():
        # An interface goes with a multicast or broadcast only.
        context: dict[str, object] = {"host": "239.1.2.3", "transport": "multicast"} if key == "interface" else {}
        assert target(context | {key: value}) != target(context)
    mapped = documented_table("osc.targets.map", examples=True)
    needed = {key: mapped.pop(key) for key in ("value", "address")}
    (plain,) = target({"map": [needed]}).map
    for key, value in mapped.items():
        assert target({"map": [needed | {key: value}]}).map != (plain,)


def test_the_documentation_explains_every_key_in_the_line_above_it() -> None:
    lines = live_toml()
    key_lines = [index for index, line in enumerate(lines) if KEY_LINE.fullmatch(line)]
    table_lines = [index for index, line in enumerate(lines) if TABLE_LINE.fullmatch(line)]
    assert len(key_lines) == len(KEYS)
    assert [lines[index] for index in table_lines] == ["# [[osc.targets]]", "# [[osc.targets.map]]"]
    for index in key_lines + table_lines:
        assert re.fullmatch(r"# [A-Z].{20,}\.", lines[index - 1]), lines[index]
        assert lines[index - 2] == "", "it is one line"


def test_the_documentation_can_be_uncommented_as_a_whole(tmp_path: Path) -> None:
    everything = [
        line.removeprefix("# ") if KEY_LINE.fullmatch(line) or TABLE_LINE.fullmatch(line) else line
        for line in live_toml()
        # Either of the two, and an interface goes with a multicast or broadcast only.
        if not line.startswith(("# targets = ", "# interface = "))
    ]
    entry = documented_table("osc.targets.map", examples=False) | documented_table("osc.targets.map", examples=True)
    table = documented_table("osc.targets", examples=False) | documented_table("osc.targets", examples=True)
    del table["interface"]
    given = documented_settings(examples=False) | documented_settings(examples=True)
    settings = load(tmp_path, "\n".join(everything))
    assert settings == load_settings(None, given | {"osc.targets": [table | {"map": [entry]}]})
    assert settings.osc.targets[0].map[0].scale == 1.0


# --- start-up


def test_settings_come_without_anything_heavy() -> None:
    """They stand on the way to the first captured sample."""
    code = (
        "import sys; from realtime_mer.config import load_settings; load_settings(None, {}); "
        "print(*sorted({'torch', 'numpy', 'scipy', 'rich', 'tomli_w', 'sounddevice', 'soundfile', "
        "'aiohttp', 'zeroconf', 'pythonosc'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr
