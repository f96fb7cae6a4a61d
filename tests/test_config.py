"""Settings of a live run: files, the command line, the errors, and configs/live.toml."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import (
    AudioSettings,
    ConfigError,
    InputSettings,
    LiveSettings,
    MappedValue,
    OscSettings,
    TargetSettings,
    address_text,
    load_settings,
    parse_listen,
    settings_toml,
)
from realtime_mer.config.addresses import parse_target
from realtime_mer.config.profiles import profile_names, profile_path
from realtime_mer.config.space import MAPPABLE

ROOT = Path(__file__).resolve().parents[1]
LIVE_TOML = ROOT / "configs" / "live.toml"
PORTS = st.integers(1, 65_535)
CLASSES: dict[str, Any] = get_type_hints(LiveSettings)


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "stage.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def load(tmp_path: Path, content: str | bytes, overrides: dict[str, object] | None = None) -> LiveSettings:
    return load_settings(write(tmp_path, content), overrides or {})


def target(values: dict[str, object]) -> TargetSettings:
    (only,) = load_settings(None, {"osc.targets": [values]}).osc.targets
    return only


# --- files and overrides


def test_the_file_overrides_the_defaults_and_the_overrides_both(tmp_path: Path) -> None:
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
    assert load(tmp_path, "[audio]\nrate_hz = 48000", {"audio.rate_hz": None}).audio.rate_hz is None
    # The file's own value is out of range, but not used.
    assert load(tmp_path, "[audio]\nblock_samples = 1", {"audio.block_samples": 512}).audio.block_samples == 512


def test_files_written_on_windows_and_of_the_largest_size_are_read(tmp_path: Path) -> None:
    content = '\ufeff[audio]\r\ndevice = "Gäste"\r\n'.encode()
    assert load(tmp_path, content + b"#" * (2**20 - len(content))).audio.device == "Gäste"


HUGE = "0x" + "f" * 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Unknown names, with the nearest one.
        ("[adio]\ndevice = 'x'", "adio: there is no such table. Did you mean audio?"),
        ("[lamps]", "lamps: there is no such table. There are: audio, input, level, "),
        ("[display]\nPLOT = true", "display.PLOT: there is no such key. Did you mean display.plot?"),
        ("[level]\nx = 1", "level.x: there is no such key. There are: level.silence_db, level.quiet_db."),
        ('[level]\n"a\\nb" = 1', r"'level.a\nb': there is no such key."),
        ("device = 'x'", "device: there is no such key. Did you mean audio.device?"),
        ("[[audio]]\ndevice = 'x'", "audio: expected a table, got [{'device': 'x'}]."),
        ("[osc]\nrate_hz = 30", "osc.rate_hz: there is no such key. Did you mean osc.targets.rate_hz?"),
        # Values of another type; nothing is converted.
        ("[audio]\ndevice = ' '", "audio.device: expected text that is not empty, got ' '."),
        ("[audio]\ndevice = 2020-01-01", "audio.device: expected text that is not empty, got 2020-01-01."),
        ("[audio]\nbuffer_s = true", "audio.buffer_s: expected a number from 0.5 to 60, got true."),
        ("[audio]\nbuffer_s = nan", "audio.buffer_s: expected a finite number, got nan."),
        ("[audio]\nrate_hz = 48000.0", "audio.rate_hz: expected a whole number from 8000 to 384000, got 48000.0."),
        ("[audio]\nchannels = [1, true]", "audio.channels[2]: expected a whole number, got true."),
        # Values out of range.
        ("[audio]\nblock_samples = 63", "audio.block_samples: expected a whole number from 64 to 16384, got 63."),
        ("[audio]\nlatency = 'Low'", "audio.latency: expected one of 'low', 'high' or a number more than 0 "),
        ("[audio]\nchannels = []", "audio.channels: expected a list of 1 to 8 different channels, counted from 1, got"),
        *(
            (f"[audio]\nchannels = {channels}", "audio.channels: expected a list of 1 to 8 different")
            for channels in ([0], [1, 1], [*range(1, 10)])
        ),
        ("[osc]\nquery = ''", "osc.query: expected PORT or HOST:PORT, such as "),
        # Values that Python or TOML cannot hold.
        (f"[audio]\nbuffer_s = {HUGE}", "expected a number of at most 64 bits, got a number of more than 64 bits."),
        ('[audio]\ndevice = "a\\u0000b"', "audio.device: expected Unicode text without the character NUL, got "),
        (f"[audio]\nrate_hz = {'9' * 5000}", "a number is too long, or lists are nested too deeply"),
        (f"[audio]\nchannels = {'[' * 100_000}", "a number is too long, or lists are nested too deeply"),
        # Files that would take too much memory.
        (f"{'a.' * 200_000}a = 1", "expected a settings file, got more than 50 dots in line 1."),
        (f"[osc]\n[{' . '.join(['a'] * 52)}]", "expected a settings file, got more than 50 dots in line 2."),
        (b"#" * (2**20 + 1), "expected a settings file of at most 1 MiB, got a larger file."),
        # Not TOML.
        ("[audio", "this is not valid TOML: "),
        (b"\xff\xfe[\0a\0u\0", "expected UTF-8, got invalid start byte at byte 0: save the file as UTF-8."),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'stage.toml'}: ")
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_long_values_are_shortened_in_messages(tmp_path: Path) -> None:
    tables = ", ".join(f"{key * 80} = {{{', '.join(f'{k * 80} = 1' for k in 'abcd')}}}" for key in "abcd")
    for value in (f"'{'x' * 100_000}'", f"{{{tables}}}"):
        with pytest.raises(ConfigError, match=r"audio\.rate_hz: expected .*, got .*\.\.\.") as error:
            load(tmp_path, f"[audio]\nrate_hz = {value}")
        assert len(str(error.value)) < 320 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["missing.toml", ".", "x" * 5000, "\0"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="the settings cannot be read: ") as error:
        load_settings(tmp_path / name, {})
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("profile", profile_names())
def test_the_error_for_a_profile_as_settings_file_names_the_option(profile: str) -> None:
    with pytest.raises(ConfigError, match="got the keys of an OSC profile: give the file as --osc-profile PATH"):
        load_settings(profile_path(profile), {})
    with pytest.raises(ConfigError, match=f"there is no such file, but an OSC profile .*: .*--osc-profile {profile}$"):
        load_settings(Path(profile), {})


@pytest.mark.parametrize("beginning", ["[osc]\ntargets = ['a:1']\n", "osc.targets = []\n"])
def test_the_error_for_targets_written_in_both_ways_explains_that(tmp_path: Path, beginning: str) -> None:
    with pytest.raises(ConfigError, match=r"Write osc.targets either as a list or as \[\[osc.targets\]\] tables"):
        load(tmp_path, f"{beginning}\n# more\n[[ osc.targets ]]\nhost = 'b'\n")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"audio.devise": "x"}, "audio.devise: there is no such key. Did you mean audio.device?"),
        ({"osc.targets": ["9000"]}, "osc.targets[1]: expected [PROFILE@]HOST:PORT, such as "),
        ({"osc.targets": None}, "osc.targets: expected a list of at most 64, each HOST:PORT in quotes or a table "),
        ({"audio.device": "caf\udce9"}, "audio.device: expected Unicode text without the character NUL, got "),
        ({"audio.buffer_s": math.nan}, "audio.buffer_s: expected a finite number, got nan."),
    ],
)
def test_mistakes_in_overrides_are_named_and_not_blamed_on_the_file(
    tmp_path: Path, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "[audio]\ndevice = 'x'", overrides)
    assert str(error.value).startswith(message)
    # A mistake in the file comes first.
    for text, key in (("[audio]\nrate_hz = 1", "audio.rate_hz"), ("audio = 1", "audio")):
        with pytest.raises(ConfigError, match=rf"stage\.toml: {key}: "):
            load(tmp_path, text, overrides)


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
MAP = "{value = 'valence', address = '/a'}"
FADERS = (MappedValue("smooth/unipolar/valence", "/fader/1"), MappedValue("smooth/unipolar/arousal", "/fader/2"))
FADER_DESK = TargetSettings(port=7700, prefix="", send=("event/*",), rate_hz=25.0, map=FADERS)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "fader@desk.toml"
    path.write_text(PROFILE)
    return path


def test_a_target_may_be_a_text_or_a_table(tmp_path: Path) -> None:
    mapped = MappedValue("level/meter", "/vu", scale=255.0, low=0.0, type="int")
    desk = TargetSettings("desk", 8000, "tcp", home=(1.0, -0.5), map=(mapped, MappedValue("held", "/held")))
    mixed = """
    [osc]
    targets = [
        "[::1]:7000",
        {host = "desk", port = 8000, transport = "tcp", home = [1, -0.5], map = [
            {value = "level/meter", address = "/vu", scale = 255, low = 0, type = "int"},
            {value = "held", address = "/held"}]},
        {},
    ]
    """
    assert load(tmp_path, mixed).osc.targets == (TargetSettings("::1", 7000), desk, TargetSettings())
    tables = """
    [[osc.targets]]
    host = "desk"
    [[osc.targets.map]]
    value = "held"
    address = "/held"
    [[osc.targets]]
    """
    desk = TargetSettings("desk", map=(MappedValue("held", "/held"),))
    assert load(tmp_path, tables).osc.targets == (desk, TargetSettings())


def test_a_targets_own_keys_override_its_profile(tmp_path: Path, profile: Path) -> None:
    changed = {"profile": str(profile), "host": "desk", "rate_hz": 50, "prefix": "/a"}
    assert target(changed) == replace(FADER_DESK, host="desk", rate_hz=50.0, prefix="/a")
    own = {"value": "valence", "address": "/v"}
    assert target({"profile": str(profile), "map": [own]}).map == (MappedValue("valence", "/v"),), "as a whole"
    assert target({"profile": str(profile), "map": [], "send": []}) == replace(FADER_DESK, map=(), send=())
    text = f"[[osc.targets]]\nprofile = '{profile}'\nport = 1"
    settings = load(tmp_path, text)
    assert settings.osc.targets == (replace(FADER_DESK, port=1),)
    # Written settings need no profile.
    profile.unlink()
    assert load(tmp_path, settings_toml(settings)) == settings


@pytest.mark.parametrize(
    ("address", "host", "port"), [("", "127.0.0.1", 7700), ("[::1]", "::1", 7700), ("desk:9000", "desk", 9000)]
)
def test_a_text_may_name_a_profile_and_an_address(profile: Path, address: str, host: str, port: int) -> None:
    settings = load_settings(None, {"osc.targets": [f"{profile}@{address}"]})
    assert settings.osc.targets == (replace(FADER_DESK, host=host, port=port),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Whole keys, counted from 1.
        ("rat_hz = 1", ".rat_hz: there is no such key. Did you mean osc.targets[2].rate_hz?"),
        ("scale = 1", ".scale: there is no such key. Did you mean osc.targets.map.scale?"),
        ("x = 1", ".x: there is no such key. There are: osc.targets[2].profile, osc.targets[2].host, "),
        ("send = 'valence'", ".send: expected a list, each text in quotes, got 'valence'."),
        ("send = ['*', 1]", ".send[2]: expected text in quotes, got 1."),
        ("home = [0, 1.1]", ".home[2]: expected a number from -1 to 1, got 1.1."),
        ("home = [0, 0, 0]", ".home: expected valence and arousal, two numbers from -1 to 1, got [0, 0, 0]."),
        ("[osc.targets.map]", ".map: expected at most 256 tables, each headed [[osc.targets.map]], got {}."),
        (f"map = [{','.join([MAP] * 257)}]", ".map: expected at most 256 tables, "),
        ("map = [{value = 'valence'}]", ".map[1].address: this key is missing."),
        ("[[osc.targets.map]]\nvalue = 1", ".map[1].value: expected text in quotes, got 1."),
        (f"map = [{MAP}, {{scale = true}}]", ".map[2].scale: expected a number from -1000000 to 1000000, got true."),
        (f"map = [{MAP[:-1]}, low = 1, high = 0}}]", ".map[1].high: expected a number not below low (1), got 0.0."),
        ("map = [{adress = '/a'}]", ".map[1].adress: there is no such key. Did you mean osc.targets[2].map[1].address"),
        ("profile = 'missing.toml'", ": missing.toml: the settings cannot be read: "),
    ],
)
def test_mistakes_in_a_target_are_named_with_the_whole_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"[[osc.targets]]\n[[osc.targets]]\n{text}")
    assert str(error.value).startswith(f"{tmp_path / 'stage.toml'}: osc.targets[2]{message}")


@pytest.mark.parametrize("targets", ["'a:1'", str(["a:1"] * 65), "[9000]", "['9000']"])
def test_targets_must_be_a_list(tmp_path: Path, targets: str) -> None:
    with pytest.raises(ConfigError, match=r"stage.toml: osc.targets(\[1\])?: expected .*HOST:PORT"):
        load(tmp_path, f"[osc]\ntargets = {targets}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "prot: there is no such key. Did you mean port?"),
        ("[[map]]\nvalue = 1", "map[1].value: expected text in quotes, got 1."),
        ("[osc]\ndelay_s = 1", "osc: there is no such table. "),
        ("profile = 'qlcplus'", "profile: a profile cannot have a profile."),
        ("port", "this is not valid TOML: "),
    ],
)
def test_mistakes_in_a_profile_are_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(text)
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
def test_any_value_of_targets_is_loaded_or_refused(value: object) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(load_settings(None, {"osc.targets": value}), LiveSettings)


# --- hosts and ports


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("lighting-desk.local:65535", "lighting-desk.local", 65_535), ("[fe80::1%eth0]:7700", "fe80::1%eth0", 7700)],
)
def test_a_text_names_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_target(text) == {"host": host, "port": port}
    assert parse_listen(text) == (host, port)
    assert address_text(host, port) == text
    assert parse_listen(str(port)) == ("127.0.0.1", port)


NO_ADDRESSES = [
    ("", "no host"),
    ("localhost", "no port"),
    (":9000", "no host"),
    ("localhost:65536", "the port must be"),
    ("localhost:٩٠٠٠", "the port must be"),
    ("localhost:" + "9" * 5000, "the port must be"),
    ("[::1]", "no port"),
    ("::1:9000", "square brackets"),
    ("[127.0.0.1]:9000", "not an IPv6 address"),
    ("osc.udp://localhost:9000", "not a host name"),
    ("a:b:9000", "not a host name"),
]


@pytest.mark.parametrize(
    ("read", "expected", "text", "why"),
    [
        *((parse_target, r"\[PROFILE@\]HOST:PORT", *each) for each in NO_ADDRESSES),
        *((parse_listen, "PORT or HOST:PORT", *each) for each in NO_ADDRESSES),
        (parse_target, r"\[PROFILE@\]HOST:PORT", "9000", "no host"),
        (parse_target, r"\[PROFILE@\]HOST:PORT", "@a:1", "no profile"),
        (parse_target, r"\[PROFILE@\]HOST:PORT", "desk@two words", "not a host name"),
        (parse_listen, "PORT or HOST:PORT", "0", "the port must be"),
    ],
)
def test_an_invalid_address_is_refused_with_the_reason(
    read: Callable[[str], object], expected: str, text: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^expected {expected}, such as .*{why}") as error:
        read(text)
    assert len(str(error.value)) < 400


def test_the_error_for_a_profile_without_an_address_explains_how_to_write_it() -> None:
    with pytest.raises(ConfigError, match=r"^'QLCplus' is a profile, not a target: write qlcplus@ or "):
        parse_target("QLCplus")


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


# --- rules beyond types and ranges


@pytest.mark.parametrize(
    ("key", "allowed", "refused"),
    [
        ("host", ("::1", "fe80::1%eth0", "desk.local", "bühne"), ("a:1", "[::1]", "a/b", "me@desk", "a\u202e")),
        (
            "prefix",
            ("", "/mer", "/a/b-c~", "/" + "x" * 199),
            ("mer", "/", "/mer/", "/a//b", "/a b", "/ä", "/a*", "/{a}", "/[a]", "/a,b", "/a\x7f", "/" + "x" * 200),
        ),
        ("send", ([], ["*"], ["valence", "smooth/*"]), (["valense"], ["*", ""], ["/mer/va"])),
    ],
)
def test_hosts_addresses_and_names(key: str, allowed: tuple[Any, ...], refused: tuple[Any, ...]) -> None:
    for value in allowed:
        assert getattr(target({key: value}), key) == (tuple(value) if isinstance(value, list) else value)
    for value in refused:
        with pytest.raises(ConfigError, match=rf"^osc\.targets\[1\]\.{key}: expected .*, got "):
            target({key: value})


@pytest.mark.parametrize(
    ("host", "transport", "interface", "refused"),
    [
        ("239.1.2.3", "multicast", "192.0.2.7", ""),
        ("ff12::1", "multicast", "eth0", ""),
        ("group.local", "multicast", None, ""),
        ("192.0.2.255", "broadcast", "eth0", ""),
        ("192.0.2.7", "multicast", None, "host: expected a multicast group, such as 239.1.2.3, got '192.0.2.7'."),
        ("ff02::1", "broadcast", None, "host: expected an IPv4 broadcast address, since IPv6 has none, got"),
        ("ff12::1", "multicast", "192.0.2.7", "interface: expected a name such as 'eth0' with an IPv6 group, got"),
        ("192.0.2.7", "tcp", "eth0", "interface: expected none with transport 'tcp', got 'eth0'."),
    ],
)
def test_an_address_that_cannot_serve_its_transport_is_refused(
    host: str, transport: str, interface: str | None, refused: str
) -> None:
    expected = pytest.raises(ConfigError, match=re.escape(refused)) if refused else contextlib.nullcontext()
    with expected:
        TargetSettings(host=host, transport=transport, interface=interface)


@pytest.mark.parametrize(
    ("value", "hint"), [("smooth/valense", "Did you mean smooth/valence?"), ("", "There are: valence, ")]
)
def test_only_single_numbers_can_be_mapped(value: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"^value: expected the name of one number .*, got '{value}'\. .*") as error:
        MappedValue(value, "/a")
    assert hint in str(error.value)


# --- writing


def test_written_settings_are_read_back(tmp_path: Path) -> None:
    """Every kind of value; test_the_documentation_can_be_uncommented_as_a_whole has every key."""
    settings = LiveSettings(
        audio=AudioSettings('"Gäste"\\ \n音楽', channels=(2, 1), latency=0.1 + 0.2),
        input=InputSettings(loop=True),
        osc=OscSettings((FADER_DESK, TargetSettings("fe80::1%eth0", prefix="", home=(-1.0, 1e-9), send=()))),
    )
    assert load(tmp_path, settings_toml(settings)) == settings


# --- configs/live.toml

KEY_LINE = re.compile(r"# ([a-z_]+) = (.*?)(  # example)?")
TABLE_LINE = re.compile(r"# (\[\[[a-z.]+\]\])")
LINES = LIVE_TOML.read_text(encoding="utf-8").splitlines()


def flat(kind: Any, table: str, values: Any = None) -> Iterator[tuple[str, Any]]:
    """Every key of a table and of the tables in it, such as `osc.targets.port`, with its default.

    values: a dataclass whose values are used instead of the defaults; of several tables, the first one's.
    """
    if kind is TargetSettings:
        yield f"{table}.profile", None
    for key in fields(kind):
        value: Any = key.default if values is None else getattr(values, key.name)
        part = (*get_args(get_type_hints(kind)[key.name]), None)[0]
        if is_dataclass(part):
            yield from flat(part, f"{table}.{key.name}", value[0] if values and value else None)
        if part is not MappedValue:
            yield f"{table}.{key.name}", value


def documented(*, examples: bool) -> dict[str, Any]:
    """The values in the key lines: defaults or examples."""
    values, table = {}, ""
    for line in LINES:
        if head := re.match(r"(?:# )?\[+([a-z.]+)\]", line):
            table = head[1]
        elif (key_line := KEY_LINE.fullmatch(line)) and (key_line[3] is not None) == examples:
            values[f"{table}.{key_line[1]}"] = tomllib.loads(line.removeprefix("# "))[key_line[1]]
    return values


def test_the_documentation_has_every_key_with_its_default_or_an_example() -> None:
    assert load_settings(LIVE_TOML, {}) == LiveSettings()
    assert list(tomllib.loads("\n".join(LINES))) == list(CLASSES)
    keys = {key: default for table, kind in CLASSES.items() for key, default in flat(kind, table)}
    assert documented(examples=True).keys() == {key for key, default in keys.items() if default in (None, MISSING)}
    found = documented(examples=False)
    assert load_settings(None, {"osc.targets": found["osc.targets"]}) == LiveSettings()
    defaults = {key: default for key, default in keys.items() if default not in (None, MISSING)}
    del found["osc.targets"], defaults["osc.targets"]
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()} == defaults


def test_the_documentation_can_be_uncommented_as_a_whole(tmp_path: Path) -> None:
    # Either targets or tables; an interface needs multicast or broadcast; a profile is replaced by its keys.
    left_out = ("# targets = ", "# interface = ", "# profile = ")
    commented = [line for line in LINES if KEY_LINE.fullmatch(line) or TABLE_LINE.fullmatch(line)]
    lines = [line.removeprefix("# ") if line in commented else line for line in LINES if not line.startswith(left_out)]
    settings = load(tmp_path, "\n".join(lines))
    assert load(tmp_path, settings_toml(settings)) == settings
    loaded = {key: v for table, kind in CLASSES.items() for key, v in flat(kind, table, getattr(settings, table))}
    for key, example in documented(examples=True).items():
        if key.rpartition(".")[2] not in ("interface", "profile"):
            assert loaded[key] == (tuple(example) if isinstance(example, list) else example)
    for line in ('host = "239.1.2.3"\ntransport = "multicast"\ninterface = "eth0"', 'profile = "qlcplus"'):
        assert line.splitlines()[-1] in "\n".join(commented)
        load(tmp_path, f"[[osc.targets]]\n{line}")
