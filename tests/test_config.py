"""Settings of a live run: what files and the command line may say, how they are told what they may not, and that
configs/live.toml says the truth."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import (
    PCM_FORMATS,
    AudioSettings,
    ConfigError,
    DisplaySettings,
    InputSettings,
    LevelMeterSettings,
    LiveSettings,
    ModelSettings,
    OscSettings,
    RecordingSettings,
    load_settings,
    settings_toml,
)

ROOT = Path(__file__).resolve().parents[1]
LIVE_TOML = ROOT / "configs" / "live.toml"
DEFAULTS = {
    f"{table}.{key.name}": key.default for table, kind in get_type_hints(LiveSettings).items() for key in fields(kind)
}


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
            osc=OscSettings(("localhost:1",)),
        )
    )
    assert load(tmp_path, text).osc.targets == ("10.0.0.5:7000", "10.0.0.6:7000")
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
        ("[lamps]", "lamps: there is no such table. There are: audio, input, level, osc, display, recording, model."),
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
        ("[audio]\nchannels = [1, true]", "audio.channels: a list of whole numbers was expected, not [1, true]."),
        ("[audio]\nchannels = [[1]]", "audio.channels: a list of whole numbers was expected, not [[1]]."),
        ("[input]\nloop = 1", "input.loop: true or false was expected, not 1."),
        ("[input]\nloop = 'yes'", "input.loop: true or false was expected, not 'yes'."),
        ("[osc]\ntargets = 'a:1'", "osc.targets: a list of texts in quotes was expected, not 'a:1'."),
        ("[osc]\ntargets = [9000]", "osc.targets: a list of texts in quotes was expected, not [9000]."),
        # What Python can hardly hold or say.
        (f"[audio]\nrate_hz = 0x{'f' * 5000}", "a whole number was expected, not a number of more than 64 bits."),
        (f"[audio]\nbuffer_s = 0x{'f' * 5000}", "a finite number was expected, not a number of more than 64 bits."),
        (f"[audio]\nchannels = [0x{'f' * 17}]", "a list of whole numbers was expected, not [a number of more than 64"),
        (f"[audio]\nrate_hz = {'9' * 5000}", "this cannot be read: a number is too long"),
        (f"[audio]\nchannels = {'[' * 100_000}", "this cannot be read: a number is too long, or lists lie too deep"),
        # Ranges.
        ("[audio]\nblock_samples = 63", "audio.block_samples: a number from 64 to 16384 was expected, not 63."),
        ("[level]\nsilence_db = 1", "level.silence_db: a number from -100 to 0 was expected, not 1."),
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


@pytest.mark.parametrize("name", ["missing.toml", ".", "x" * 5000, "\0"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="the settings cannot be read: ") as error:
        load_settings(tmp_path / name, {})
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"audio.devise": "x"}, "audio.devise: there is no such key. Did you mean audio.device?"),
        ({"adio.device": "x"}, "adio.device: there is no such key. Did you mean audio.device?"),
        ({"device": "x"}, "device: there is no such key. Did you mean audio.device?"),
        ({"audio": {}}, "audio: there is no such key. There are: audio.device, "),
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


# --- ranges


@pytest.mark.parametrize(
    ("kind", "key", "allowed", "refused", "message"),
    [
        (AudioSettings, "audio.block_samples", (64, 16_384, None), (63, 16_385, 0, -64), "from 64 to 16384"),
        (AudioSettings, "audio.rate_hz", (8_000, 384_000, None), (7_999, 384_001), "from 8000 to 384000"),
        (AudioSettings, "audio.buffer_s", (0.5, 60.0), (0.49, 60.01, math.nan, math.inf), "from 0.5 to 60"),
        (
            AudioSettings,
            "audio.latency",
            ("low", "high", 0.001, 10.0),
            ("Low", "", 0.0, -1.0, 10.01, math.nan, math.inf),
            "'low', 'high', or seconds (more than 0, at most 10)",
        ),
        (
            AudioSettings,
            "audio.channels",
            (None, (1,), (2, 1), tuple(range(1, 9)), (64,)),
            ((), (0,), (-1, 1), (1, 1), tuple(range(1, 10))),
            "a list of 1 to 8 different channels, counted from 1,",
        ),
        (AudioSettings, "audio.device", ("default", "3", "ü"), ("", " \t"), "a text that is not empty"),
        (AudioSettings, "audio.host_api", ("ALSA", None), ("", " "), "a text that is not empty"),
        (AudioSettings, "audio.device", ("d",), ("a\0b", "caf\udce9"), "a text in Unicode, without the character NUL,"),
        (InputSettings, "input.file", ("-", "song.flac", None), ("", " "), "a text that is not empty"),
        (InputSettings, "input.pcm_format", PCM_FORMATS, ("s16", "", "S16LE"), "one of 's16le', 's24le', 's32le', 'f"),
        (InputSettings, "input.pcm_rate_hz", (8_000, 384_000), (7_999, 384_001), "from 8000 to 384000"),
        (InputSettings, "input.pcm_channels", (1, 8), (0, 9), "from 1 to 8"),
        (LevelMeterSettings, "level.silence_db", (-100.0, 0.0), (-100.1, 0.1, math.nan), " was expected"),
        (
            LevelMeterSettings,
            "level.quiet_db",
            (-100.0, 0.0),
            (-100.1, 0.1, math.nan),
            "a number from -100 to 0 was expected",
        ),
        (OscSettings, "osc.targets", ((), ("a:1", "b:2")), (("",), ("a:1", " ")), "a text that is not empty"),
        (RecordingSettings, "recording.directory", ("x", None), ("", " "), "a text that is not empty"),
        (ModelSettings, "model.checkpoint", ("x", None), ("", " "), "a text that is not empty"),
    ],
)
def test_values_out_of_range_are_refused(
    kind: Any, key: str, allowed: tuple[Any, ...], refused: tuple[Any, ...], message: str
) -> None:
    name = key.partition(".")[2]
    for value in allowed:
        assert getattr(kind(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(ConfigError, match=f"^{re.escape(key)}: .*{re.escape(message)}"):
            kind(**{name: value})


# --- writing them out

TEXTS = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)
RATES_HZ = st.integers(8_000, 384_000)
CHANNELS = st.lists(st.integers(1, 256), min_size=1, max_size=8, unique=True).map(tuple)
LEVELS_DB = st.builds(LevelMeterSettings, st.floats(-100, 0), st.floats(-100, 0))
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
    st.builds(OscSettings, st.lists(TEXTS, max_size=3).map(tuple)),
    st.builds(DisplaySettings, st.booleans(), st.booleans()),
    st.builds(RecordingSettings, st.none() | TEXTS),
    st.builds(ModelSettings, st.none() | TEXTS),
)


@given(SETTINGS)
def test_what_is_written_out_is_read_back(tmp_path_factory: pytest.TempPathFactory, settings: LiveSettings) -> None:
    path = tmp_path_factory.getbasetemp() / "written.toml"
    path.write_bytes(settings_toml(settings).encode())
    assert load_settings(path, {}) == settings


def test_everything_in_force_is_written_out_but_what_is_none() -> None:
    written = tomllib.loads(settings_toml(LiveSettings()))
    assert {f"{table}.{key}" for table, keys in written.items() for key in keys} == {
        key for key, default in DEFAULTS.items() if default is not None
    }


# --- configs/live.toml

KEY_LINE = re.compile(r"# ([a-z_]+) = (.*?)(  # example)?")


def documented(*, examples: bool) -> dict[str, Any]:
    """What the file says when the key lines are uncommented: those with defaults, or those with examples."""
    lines = []
    for line in LIVE_TOML.read_text(encoding="utf-8").splitlines():
        key_line = KEY_LINE.fullmatch(line)
        if key_line is None:
            lines.append(line)
        elif (key_line[3] is not None) == examples:
            lines.append(line.removeprefix("# "))
    tables = tomllib.loads("\n".join(lines))
    return {f"{table}.{key}": value for table, keys in tables.items() for key, value in keys.items()}


def test_the_documentation_as_it_stands_changes_nothing() -> None:
    assert load_settings(LIVE_TOML, {}) == LiveSettings()
    assert list(tomllib.loads(LIVE_TOML.read_text(encoding="utf-8"))) == list(get_type_hints(LiveSettings))


def test_the_documentation_has_every_key_with_its_default() -> None:
    assert MISSING not in DEFAULTS.values()
    with_default = {key: default for key, default in DEFAULTS.items() if default is not None}
    assert list(documented(examples=False)) == list(with_default), "in the order of the dataclasses"
    settings = load_settings(None, documented(examples=False))
    assert settings == LiveSettings()
    assert {
        key: tuple(v) if isinstance(v, list) else v for key, v in documented(examples=False).items()
    } == with_default


def test_the_documentation_has_a_good_example_for_every_key_without_default() -> None:
    examples = documented(examples=True)
    assert list(examples) == [key for key, default in DEFAULTS.items() if default is None]
    assert load_settings(None, examples) != LiveSettings()
    for key, value in examples.items():
        assert load_settings(None, {key: value}) != LiveSettings()


def test_the_documentation_explains_every_key_in_the_line_above_it() -> None:
    lines = LIVE_TOML.read_text(encoding="utf-8").splitlines()
    key_lines = [index for index, line in enumerate(lines) if KEY_LINE.fullmatch(line)]
    assert len(key_lines) == len(DEFAULTS)
    for index in key_lines:
        assert re.fullmatch(r"# [A-Z].{20,}\.", lines[index - 1]), lines[index]
        assert lines[index - 2] == "", "it is one line"


def test_the_documentation_can_be_uncommented_as_a_whole(tmp_path: Path) -> None:
    text = LIVE_TOML.read_text(encoding="utf-8")
    everything = "\n".join(line.removeprefix("# ") if KEY_LINE.fullmatch(line) else line for line in text.splitlines())
    settings = load(tmp_path, everything)
    assert settings == load_settings(None, documented(examples=False) | documented(examples=True))


# --- start-up


def test_settings_come_without_anything_heavy() -> None:
    """They stand on the way to the first captured sample."""
    code = (
        "import sys; from realtime_mer.config import load_settings; load_settings(None, {}); "
        "print(*sorted({'torch', 'numpy', 'scipy', 'rich', 'tomli_w', 'sounddevice', 'soundfile'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr
