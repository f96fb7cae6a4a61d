"""The true cause where an input has no music in it, and the settings and files that mislead a newcomer."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import music
from sound_server import start_sound_server

from realtime_mer.config import ConfigError, LevelMeterSettings, LiveSettings, load_settings
from realtime_mer.doctor import Verdict, software, sound
from realtime_mer.doctor.guard import guarded
from realtime_mer.live.input_faults import Fault, InputWatch, find_fault
from realtime_mer.live.metering import LevelMeter
from realtime_mer.sources import devices
from realtime_mer.types import FloatArray
from realtime_mer.updates import LevelState

RATE_HZ = 44_100
SILENCE_DB = LevelMeterSettings().silence_db


def at_db(sound: np.ndarray, level_db: float) -> FloatArray:
    """Mono sound at this RMS, shape (n_samples, 1)."""
    scaled: FloatArray = sound * 10 ** (level_db / 20) / np.sqrt(np.mean(np.square(sound)))
    return np.asarray(scaled, dtype=np.float32).reshape(-1, 1)


def hiss(level_db: float, seconds: float = 1.0) -> FloatArray:
    return at_db(np.random.default_rng(1).standard_normal(round(seconds * RATE_HZ)), level_db)


def hum(level_db: float, mains_hz: float = 50.0, seconds: float = 1.0) -> FloatArray:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    harmonics = sum(np.sin(2 * np.pi * n * mains_hz * time_s + n) / n for n in (1, 2, 3, 5, 7))
    return at_db(np.asarray(harmonics), level_db)


def tune(level_db: float, seconds: float = 1.0) -> FloatArray:
    return at_db(music(seconds, RATE_HZ), level_db)


def antiphase(sound: FloatArray) -> FloatArray:
    return np.hstack([sound, -sound])


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (antiphase(tune(-20)), Fault.CANCELLED),
        (np.hstack([tune(-20), -tune(-21)]), Fault.CANCELLED),
        (hiss(-50), Fault.HISS),
        (hiss(-35), Fault.HISS),
        (hum(-45), Fault.HUM),
        (hum(-45, 60), Fault.HUM),
        (hum(-45) + hiss(-60), Fault.HUM),
        # Unrelated channels, a mono signal on one of two channels, and silence are as they should be.
        (np.hstack([tune(-20), np.roll(tune(-20), 9000, axis=0)]), None),
        (np.hstack([tune(-20), 0 * tune(-20)]), None),
        (antiphase(tune(-80)), None),
        (hiss(-65), None),
        # Noise as loud as music may be the music.
        (hiss(-20), None),
        *((tune(level_db), None) for level_db in (-55, -40, -20)),
    ],
)
def test_the_cause_is_found(samples: FloatArray, fault: Fault | None) -> None:
    found = find_fault(samples, RATE_HZ, SILENCE_DB)
    assert (found.fault if found else None) is fault
    if fault is Fault.CANCELLED:
        assert found is not None
        assert "--channels 1" in found.cure


def test_real_music_is_no_fault(deam_root: Path) -> None:
    import soundfile

    samples, rate_hz = soundfile.read(deam_root / "golden" / "829.wav", dtype="float32", always_2d=True)
    for gain_db in (0, -20, -35):
        scaled = samples * np.float32(10 ** (gain_db / 20))
        seconds = [scaled[start : start + rate_hz] for start in range(0, len(scaled) - rate_hz, rate_hz)]
        assert [find_fault(second, rate_hz, SILENCE_DB) for second in seconds] == [None] * len(seconds)


@pytest.mark.parametrize("noise", [hiss(-50), hum(-40)])
def test_the_threshold_that_is_proposed_makes_the_noise_silence(noise: FloatArray) -> None:
    found = find_fault(noise, RATE_HZ, SILENCE_DB)
    assert found is not None
    proposed = re.search(r"--silence-db (-\d+)", found.cure)
    assert proposed is not None
    for silence_db, state in ((SILENCE_DB, LevelState.MUSIC), (float(proposed[1]), LevelState.SILENCE)):
        meter = LevelMeter(LevelMeterSettings(silence_db=silence_db, quiet_db=-90), RATE_HZ)
        meter.step(noise)
        level = meter.level()
        assert level is not None
        assert level.state is state
    assert find_fault(noise, RATE_HZ, float(proposed[1])) is None


# --- doctor


@pytest.mark.parametrize(
    ("samples", "text", "cure"),
    [
        (antiphase(tune(-20)), "cancel each other", "--channels 1"),
        (hiss(-50), "hiss is taken for music", "--silence-db -4"),
        (hum(-50), "hum is taken for music", "--silence-db -4"),
        (tune(-50), "too quiet", "Raise the fader"),
    ],
)
def test_doctor_names_the_cause(samples: FloatArray, text: str, cure: str) -> None:
    check = sound._level_check(samples, RATE_HZ, "card", LevelMeterSettings())
    assert check.verdict is Verdict.WARNING
    assert text in check.text
    assert cure in check.cure
    assert ("fader" in check.cure) == (text == "too quiet"), "no other cure beside the right one"


def source(name: str, *, mute: bool = False, volume: int = 65536) -> dict[str, object]:
    """A source as pactl describes it."""
    return {
        "name": name,
        "description": f"The {name}",
        "sample_specification": "s16le 2ch 44100Hz",
        "properties": {},
        "mute": mute,
        "volume": {"front-left": {"value": volume}, "front-right": {"value": volume}},
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """The sources of a sound server; the last one is the default."""
    sources: list[dict[str, object]] = [source("music"), source("off", mute=True), source("down", volume=0)]

    def answer(*request: str) -> str:
        return str(sources[-1]["name"]) if request == ("get-default-source",) else json.dumps(sources)

    monkeypatch.setattr(devices, "_ask_server", answer)
    return sources


@pytest.mark.usefixtures("server")
def test_doctor_names_a_muted_source() -> None:
    zeros = np.zeros((RATE_HZ, 2), dtype=np.float32)
    for name, muted in (("The off", "off"), ("The down", "down"), ("default", "down"), ("pulse", "down")):
        check = sound._level_check(zeros, RATE_HZ, name, LevelMeterSettings())
        assert (check.verdict, "it is muted" in check.text) == (Verdict.WARNING, True), name
        assert f"pactl set-source-mute {muted} 0" in check.cure
    assert "it is muted" not in sound._level_check(zeros, RATE_HZ, "The music", LevelMeterSettings()).text


@pytest.mark.slow
def test_a_source_that_is_really_muted(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(start_sound_server()) as started:
        started.keep_awake()
        for name in ("PULSE_SERVER", "PULSE_SOURCE", "PULSE_SINK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("XDG_RUNTIME_DIR", "HOME"):
            monkeypatch.setenv(name, started.environment[name])
        for command, muted in (
            (("set-source-mute", "music.monitor", "1"), True),
            (("set-source-mute", "music.monitor", "0"), False),
            (("set-source-volume", "music.monitor", "0"), True),
        ):
            started.pactl(*command)
            (check,) = guarded("level", sound.level, LiveSettings(), 60.0, "")
            assert ("it is muted" in check.text) == muted, check


def test_doctor_names_a_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(None, {"recording.directory": str(tmp_path / "night")})
    assert software.recording(settings)[0].verdict is not Verdict.FAILED
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))
    (check,) = software.recording(settings)
    assert (check.verdict, check.text) == (Verdict.FAILED, "The disk of night is read-only.")


# --- live


def watched(watch: InputWatch, *parts: FloatArray, name: str = "card") -> list[str]:
    """The note after each part."""
    notes = []
    for part in parts:
        for block in np.array_split(part, 100):
            watch.step(block, RATE_HZ, name)
        notes.append(watch.note)
    return notes


@pytest.mark.parametrize(("noise", "cause"), [(antiphase(tune(-20)), "--channels 1"), (hiss(-50), "--silence-db -4")])
def test_a_lasting_fault_is_noted_until_it_ends(
    noise: FloatArray, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = InputWatch(SILENCE_DB)
    other = np.repeat(tune(-20), noise.shape[1], axis=1)
    notes = watched(watch, *[noise] * 4, other, *[noise] * 5, other, *[noise] * 5)
    assert [cause in note for note in notes] == [False] * 9 + [True] + [False] * 5 + [True]
    assert capsys.readouterr().err.count(cause) == 1, "one notice on standard error"


@pytest.mark.usefixtures("server")
def test_a_muted_source_is_noted_until_there_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    zeros = np.zeros((RATE_HZ, 2), dtype=np.float32)
    watch = InputWatch(SILENCE_DB)
    watched(watch, *[zeros] * 5, name="The off")
    for thread in threading.enumerate():
        if thread.name == "muted":
            thread.join(10)
    assert "pactl set-source-mute off 0" in watch.note
    assert "pactl set-source-mute off 0" in capsys.readouterr().err
    assert "muted" in watched(watch, zeros)[0]
    assert watched(watch, np.repeat(tune(-20), 2, axis=1)) == [""]


def test_other_channels_and_rates_begin_anew() -> None:
    watch = InputWatch(SILENCE_DB)
    watch.step(hiss(-50, 0.5), RATE_HZ, "card")
    watch.step(antiphase(hiss(-50, 0.7)), RATE_HZ, "card")
    assert watch._n_waiting == round(0.7 * RATE_HZ)


# --- settings


@pytest.mark.parametrize(
    ("osc", "control", "clash"),
    [
        ("127.0.0.1:9001", "9001", True),
        ("localhost:9001", "9001", True),
        ("127.0.0.1:9001", "0.0.0.0:9001", True),
        ("[::1]:9001", "[::]:9001", True),
        ("0.0.0.0:9001", "9001", True),
        ("192.168.1.7:9001", "192.168.1.7:9001", True),
        ("desk:9001", "Desk:9001", True),
        ("127.0.0.1:9000", "9001", False),
        ("192.168.1.7:9001", "9001", False),
    ],
)
def test_osc_and_control_on_one_port(osc: str, control: str, clash: bool, tmp_path: Path) -> None:
    path = tmp_path / "live.toml"
    path.write_text(f'control.listen = "{control}"\n[[osc.targets]]\nhost = "unused"\n')
    given = {"osc.targets": ["elsewhere:1", osc], "control.listen": control}
    if not clash:
        assert len(load_settings(None, given).osc.targets) == 2
        return
    with pytest.raises(ConfigError, match=r"^control\.listen: osc\.targets\[2\] sends to port 9001 of this computer"):
        load_settings(None, given)
    with pytest.raises(ConfigError, match=r"^control\.listen: osc\.targets\[2\]"):
        load_settings(path, {"osc.targets": given["osc.targets"]})


def test_tcp_on_the_control_port_is_another_port() -> None:
    tcp = {"host": "127.0.0.1", "port": 9001, "transport": "tcp"}
    assert load_settings(None, {"osc.targets": [tcp], "control.listen": "9001"}).control.listen == "9001"
