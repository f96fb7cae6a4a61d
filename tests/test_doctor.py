from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import doctor_checks
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from live_runs import DISPLAY_VARIABLES
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.config import (
    AudioSettings,
    ControlSettings,
    DisplaySettings,
    InputSettings,
    LevelMeterSettings,
    LiveSettings,
    LogSettings,
    ModelSettings,
    OscSettings,
    RecordingSettings,
    TargetSettings,
)
from realtime_mer.doctor import Check, Verdict, command, machine, network, software, sound, told
from realtime_mer.doctor.guard import Checks, guarded
from realtime_mer.models.checkpoint import default_checkpoint_path
from realtime_mer.sources.devices import DeviceError

pytestmark = pytest.mark.slow
_HERE = "127.0.0.1"
# Only against hanging.
_TIMEOUT_S = 60.0
# What programs may look for; the order is the report's.
_NAMES = [
    *("program", "system", "libraries", "PortAudio", "inputs", "sound server", "sound cards", "level", "openSMILE"),
    *("model", "headroom", "clock", "priority", "window", "OSC target", "control port", "OSCQuery port", "recording"),
    *("log", "ffmpeg"),
]


def only(found: list[Check]) -> Check:
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    with contextlib.closing(start_sound_server()) as started:
        started.keep_awake()
        yield started


@pytest.fixture
def in_server(server: SoundServer, monkeypatch: pytest.MonkeyPatch) -> SoundServer:
    """Whatever this process starts has the server."""
    for name in ("PULSE_SERVER", "PULSE_SOURCE", "PULSE_SINK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, server.environment[name])
    return server


@pytest.fixture
def taken() -> Iterator[tuple[socket.socket, int]]:
    """A UDP port that this process has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((_HERE, 0))
        yield made, made.getsockname()[1]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((_HERE, 0))
        port: int = made.getsockname()[1]
        return port


# --- the report ---


@given(st.text(max_size=300).filter(str.strip), st.text(max_size=300), st.sampled_from(Verdict))
def test_a_check_is_one_entry_of_the_report(text: str, cure: str, verdict: Verdict) -> None:
    lines = command.line(Check("level", verdict, text, cure)).splitlines()
    assert lines[0].split()[:2] == [str(verdict), "level"]
    told_of = json.loads(command.report_json([Check("level", verdict, text, cure)]))
    assert told_of["checks"] == [{"name": "level", "verdict": str(verdict), "text": text, "cure": cure}]
    assert told_of["works"] is (verdict is not Verdict.FAILED)


def test_the_cure_stands_below() -> None:
    lines = command.line(Check("model", Verdict.FAILED, "broken " * 20, "Reinstall it.")).splitlines()
    assert lines[0].startswith("failed   model          broken broken")
    assert max(map(len, lines)) <= 120
    assert lines[-1].strip() == "-> Reinstall it."
    assert all(line.startswith(" " * 24) for line in lines[1:])


def test_an_error_is_cut_into_what_and_cure() -> None:
    error = DeviceError("No input has the index 7. There are:\n  --device 0")
    assert told("level", error) == Check("level", Verdict.FAILED, "No input has the index 7.")
    assert told("level", error, cure="Choose.").cure == "Choose."
    assert told("level", DeviceError("It hangs. Restart it. Now."), cure="Choose.").cure == "Restart it. Now."


def test_no_home_folder_and_no_control_character_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    checks = [Check("a", Verdict.OK, "in /home/ann/x and /home/anna\x1b[2J", "see /home/ann.")]
    assert list(command._discreet(iter(checks))) == [Check("a", Verdict.OK, "in ~/x and /home/anna [2J", "see ~.")]


# --- the guard ---


def test_a_check_is_made_in_another_process_that_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    found = guarded("any", doctor_checks.works, LiveSettings(audio=AudioSettings("desk")), _TIMEOUT_S, "")
    assert [check.text for check in found] != ["desk", str(os.getpid())]
    assert found[0] == Check("device", Verdict.OK, "desk")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("checks", "timeout_s", "text", "cure"),
    [
        (doctor_checks.raises, _TIMEOUT_S, "LookupError: nothing there", "report it"),
        (doctor_checks.hangs, 0.5, "not answered for 0.5 s", "Restart it."),
        (doctor_checks.dies, _TIMEOUT_S, "SIGKILL", "report it"),
        (doctor_checks.exits, _TIMEOUT_S, "exit code 3", "report it"),
    ],
)
def test_a_check_that_goes_wrong_is_a_line(checks: Checks, timeout_s: float, text: str, cure: str) -> None:
    check = only(guarded("any", checks, LiveSettings(), timeout_s, "Restart it."))
    assert (check.name, check.verdict) == ("any", Verdict.FAILED)
    assert text in check.text
    assert cure in check.cure


# --- sound ---


def test_music_has_a_level(in_server: SoundServer, deam_root: Path) -> None:
    player = in_server.play(next(iter(sorted((deam_root / "audio_long").glob("*")))))
    try:
        check = only(guarded("level", sound.level, LiveSettings(), _TIMEOUT_S, ""))
    finally:
        player.kill()
    assert check.verdict is Verdict.OK, check
    assert "44100 Hz, 2 channels: -" in check.text


def test_silence_is_a_warning_by_the_settings(in_server: SoundServer) -> None:
    settings = LiveSettings(level=LevelMeterSettings(silence_db=-70))
    check = only(guarded("level", sound.level, settings, _TIMEOUT_S, ""))
    assert check.verdict is Verdict.WARNING
    assert "silence (below -70 dBFS)" in check.text


def test_an_input_that_is_not_there(in_server: SoundServer) -> None:
    check = only(guarded("level", sound.level, LiveSettings(audio=AudioSettings("Nagra")), _TIMEOUT_S, ""))
    assert check.verdict is Verdict.FAILED
    assert "'Nagra'" in check.text
    assert "realtime-mer devices" in check.cure


def test_the_server_and_its_sources(in_server: SoundServer) -> None:
    found = {check.name: check for check in guarded("PortAudio", sound.inputs, LiveSettings(), _TIMEOUT_S, "")}
    assert found["sound server"].text == "1 source, 1 of what is playing"
    assert found["PortAudio"].verdict is found["inputs"].verdict is Verdict.OK


def test_a_server_that_hangs_is_a_line(in_server: SoundServer) -> None:
    os.kill(int(in_server.pid()), signal.SIGSTOP)
    try:
        check = only(guarded("PortAudio", sound.inputs, LiveSettings(), 1.0, "Restart it."))
    finally:
        os.kill(int(in_server.pid()), signal.SIGCONT)
    assert (check.name, check.verdict, check.cure) == ("PortAudio", Verdict.FAILED, "Restart it.")


def test_a_file_needs_no_device(tmp_path: Path) -> None:
    missing = only(sound.level(LiveSettings(input=InputSettings(str(tmp_path / "song.flac")))))
    assert (missing.verdict, missing.text) == (Verdict.FAILED, "There is no file song.flac.")
    (tmp_path / "song.flac").write_text("words")
    broken = only(sound.level(LiveSettings(input=InputSettings(str(tmp_path / "song.flac")))))
    assert broken.verdict is Verdict.FAILED
    assert broken.text.startswith("song.flac cannot be read as audio: ")
    soundfile.write(tmp_path / "song.flac", np.zeros(100), 44_100)
    assert only(sound.level(LiveSettings(input=InputSettings(str(tmp_path / "song.flac"))))).verdict is Verdict.SKIPPED
    assert only(sound.level(LiveSettings(input=InputSettings("-")))).text == "standard input is heard, no device"


# --- the network ---


def test_who_listens_at_a_target_is_named(taken: tuple[socket.socket, int]) -> None:
    check = only(network.targets(LiveSettings(osc=OscSettings((TargetSettings(_HERE, taken[1]),)))))
    assert check.verdict is Verdict.OK
    if sys.platform == "linux":
        assert f"(process {os.getpid()}) has this port" in check.text


def test_nobody_at_a_target_is_a_warning_and_the_port_stays_free() -> None:
    port = free_port()
    for _ in range(2):
        check = only(network.targets(LiveSettings(osc=OscSettings((TargetSettings(_HERE, port),)))))
        assert check.verdict is Verdict.WARNING
        assert f"osc-monitor {port}" in check.cure


def test_a_target_whose_name_nobody_knows() -> None:
    check = only(network.targets(LiveSettings(osc=OscSettings((TargetSettings("lights.invalid"),)))))
    assert check.verdict is Verdict.FAILED
    assert "lights.invalid:9000" in check.text


def test_targets_elsewhere_and_none() -> None:
    far = TargetSettings("192.0.2.7", 7700)
    many = TargetSettings("239.1.2.3", 7700, transport="multicast")
    found = network.targets(LiveSettings(osc=OscSettings((far, many))))
    assert [check.verdict for check in found] == [Verdict.OK, Verdict.OK]
    assert [check.text.partition(";")[0] for check in found] == ["192.0.2.7:7700", "239.1.2.3:7700 (multicast)"]
    assert only(network.targets(LiveSettings(osc=OscSettings(())))).verdict is Verdict.SKIPPED


def test_a_port_that_is_taken_is_told_and_not_stolen(taken: tuple[socket.socket, int]) -> None:
    holder, port = taken
    settings = LiveSettings(control=ControlSettings(str(port)))
    control, query = network.listening(settings)
    assert (control.verdict, query.verdict) == (Verdict.FAILED, Verdict.SKIPPED)
    assert "--control" in control.cure
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"still here", (_HERE, port))
    holder.settimeout(_TIMEOUT_S)
    assert holder.recv(100) == b"still here"
    assert network.listening(LiveSettings(control=ControlSettings(str(free_port()))))[0].verdict is Verdict.OK


# --- the program ---


def test_the_checksum_is_the_models() -> None:
    """Trained anew? Then: cd realtime_mer/model && sha256sum default.safetensors > default.safetensors.sha256"""
    assert software.expected_sha256() == hashlib.sha256(default_checkpoint_path().read_bytes()).hexdigest()


def test_the_shipped_model_is_known_and_another_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = only(software.model(LiveSettings()))
    assert shipped.verdict is Verdict.OK
    assert "comes with realtime-mer" in shipped.text
    monkeypatch.setattr(software, "expected_sha256", lambda: "0" * 64)
    changed = only(software.model(LiveSettings()))
    assert (changed.verdict, changed.cure) == (Verdict.FAILED, "Reinstall realtime-mer.")
    (tmp_path / "mine.safetensors").write_bytes(default_checkpoint_path().read_bytes())
    own = only(software.model(LiveSettings(model=ModelSettings(str(tmp_path / "mine.safetensors")))))
    assert own.verdict is Verdict.OK
    assert own.text.startswith("mine.safetensors, your own")


@pytest.mark.parametrize("n_bytes", [None, 0, 5000])
def test_a_model_that_is_missing_or_damaged(n_bytes: int | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    if n_bytes is not None:
        path.write_bytes(default_checkpoint_path().read_bytes()[:n_bytes])
    check = only(software.model(LiveSettings(model=ModelSettings(str(path)))))
    assert check.verdict is Verdict.FAILED
    assert "mine.safetensors" in check.text
    assert str(tmp_path) not in check.text


def test_opensmile_gives_a_frame() -> None:
    assert only(software.opensmile(LiveSettings())).verdict is Verdict.OK


def test_a_folder_to_record_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(name: str) -> Verdict:
        return only(software.recording(LiveSettings(recording=RecordingSettings(str(tmp_path / name))))).verdict

    assert verdict("new/deep") is Verdict.OK
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    assert verdict("full") is Verdict.OK
    (tmp_path / "full" / "file").touch()
    assert verdict("full") is verdict("full/file") is verdict("full/file/below") is Verdict.FAILED
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2 * 10**9))
    assert verdict("new") is Verdict.WARNING
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=0))
    assert verdict("new") is Verdict.FAILED
    assert only(software.recording(LiveSettings())).verdict is Verdict.SKIPPED


def test_a_place_for_the_log(tmp_path: Path) -> None:
    def check(name: str) -> Check:
        return only(software.log(LiveSettings(log=LogSettings(name))))

    assert check(str(tmp_path / "new" / "night.log")).verdict is check("-").verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []
    song = tmp_path / "song.wav"
    song.write_bytes(b"RIFF")
    assert check(str(song)).text == "song.wav is no log of realtime-mer, and is left alone."
    assert check(str(tmp_path)).text == f"{tmp_path.name} is no file."
    assert check(str(song / "night.log")).text == "night.log cannot be written."
    song.write_bytes(b"2026-06-21T23:14:07.518+02:00 and so on")
    assert check(str(song)).verdict is Verdict.OK
    assert only(software.log(LiveSettings())).verdict is Verdict.SKIPPED


def test_no_display_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DISPLAY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if sys.platform == "linux":
        check = only(software.window(LiveSettings()))
        assert check.verdict is Verdict.WARNING
        assert "terminal" in check.cure
    assert only(software.window(LiveSettings(display=DisplaySettings(plot=False)))).verdict is Verdict.SKIPPED


def test_no_ffmpeg_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert only(software.ffmpeg(LiveSettings())).verdict is Verdict.WARNING


# --- the machine ---


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.29, Verdict.FAILED), (1.31, Verdict.WARNING), (2.9, Verdict.WARNING), (3.0, Verdict.OK)]
)
def test_headroom_has_its_bounds(ratio: float, verdict: Verdict) -> None:
    assert machine._told_of(ratio, 15.0, 28).verdict is verdict


def test_headroom_hears_all_of_the_music() -> None:
    # 15 s: frames of 1 s every 0.5 s.
    assert "28 predictions" in only(machine.headroom(LiveSettings())).text


def test_rests_and_priority_are_told() -> None:
    niceness = os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None
    clock, priority = machine.scheduling(LiveSettings())
    assert "rests of 5 ms" in clock.text
    assert priority.verdict is Verdict.OK
    assert niceness is None or os.getpriority(os.PRIO_PROCESS, 0) == niceness


# --- the command ---


def test_the_command_tells_all_as_json(server: SoundServer, tmp_path: Path) -> None:
    """As a user types it: a desk that is not there, everything else well."""
    arguments = ["doctor", "--json", "--no-plot", "--device", "Nagra", "--osc", f"{_HERE}:{free_port()}"]
    run = subprocess.run(
        [sys.executable, "-m", "realtime_mer", *arguments],
        env=server.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=2 * _TIMEOUT_S,
        check=False,
    )
    report = json.loads(run.stdout)
    assert (run.returncode, run.stderr, report["works"]) == (1, "", False)
    assert [check["name"] for check in report["checks"]] == _NAMES
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert [name for name, verdict in verdicts.items() if verdict == "failed"] == ["level"]


def test_the_table_ends_with_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for verdicts, works, end in (
        (["ok", "skipped"], True, "All is well."),
        (["ok", "warning"], True, "A run works; 1 thing could be better."),
        (["failed", "warning"], False, "A run would not work: 1 of 2 checks failed; what to do stands below each."),
    ):
        checks = [Check("level", Verdict(verdict), "text") for verdict in verdicts]
        monkeypatch.setattr(command, "_found", lambda _settings, checks=checks: iter(checks))
        assert command.run(LiveSettings(), as_json=False) is works
        assert capsys.readouterr().out.splitlines()[-1] == end
