"""`realtime-mer doctor`: the report, the processes that run the checks, and each check."""

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
from checkpoints import music
from live_runs import DISPLAY_VARIABLES
from osc_sockets import HERE, free_port, udp_socket
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.config import MODEL_NAMES, LiveSettings, ModelSettings, load_settings
from realtime_mer.doctor import Check, Verdict, command, from_error, machine, network, software, sound
from realtime_mer.doctor.guard import Checks, guarded
from realtime_mer.models.packaged import chosen_checkpoint_path, default_checkpoint_path
from realtime_mer.sources.devices import DeviceError

# Only a limit for a test that hangs.
_TIMEOUT_S = 60.0
# Programs rely on these names; the order is the report's.
_NAMES = [
    *("program", "system", "libraries", "PortAudio", "inputs", "sound server", "sound cards", "level", "openSMILE"),
    *("model", "headroom", "clock", "priority", "window", "OSC target", "control port", "OSCQuery port", "recording"),
    *("log", "ffmpeg"),
]


def given(key: str, value: object) -> LiveSettings:
    return load_settings(None, {key: value})


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
    """Processes that this one starts use the server."""
    for name in ("PULSE_SERVER", "PULSE_SOURCE", "PULSE_SINK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, server.environment[name])
    return server


@pytest.fixture
def taken() -> Iterator[tuple[socket.socket, int]]:
    """A UDP socket of this process, and its port."""
    with contextlib.closing(udp_socket()) as made:
        yield made, made.getsockname()[1]


# --- the report ---


@pytest.mark.parametrize("verdict", Verdict)
def test_a_check_is_an_entry_of_both_reports(verdict: Verdict) -> None:
    check = Check("model", verdict, "broken " * 20, "Reinstall it.")
    lines = command.line(check).splitlines()
    assert " ".join(lines).split() == [str(verdict), "model", *["broken"] * 20, "->", "Reinstall", "it."]
    assert max(map(len, lines)) <= 120
    assert lines[-1].strip() == "-> Reinstall it."
    assert all(line.startswith(" " * 24) for line in lines[1:])
    report = json.loads(command.report_json([check]))
    assert report.pop("version")
    expected = {"name": "model", "verdict": str(verdict), "text": "broken " * 20, "cure": "Reinstall it."}
    assert report == {"works": verdict is not Verdict.FAILED, "checks": [expected]}


def test_an_error_is_split_into_text_and_cure() -> None:
    error = DeviceError("No input has the index 7. There are:\n  --device 0")
    assert from_error("level", error) == Check("level", Verdict.FAILED, "No input has the index 7.")
    assert from_error("level", error, cure="Choose.").cure == "Choose."
    assert from_error("level", DeviceError("It hangs. Restart it. Now."), cure="Choose.").cure == "Restart it. Now."


def test_home_folder_and_control_characters_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    check = Check("a", Verdict.OK, "in /home/ann/x and /home/anna\x1b[2J", "see /home/ann.")
    assert command._without_private(check) == Check("a", Verdict.OK, "in ~/x and /home/anna [2J", "see ~.")


@pytest.mark.parametrize(
    ("verdicts", "works", "end"),
    [
        (["ok", "skipped"], True, "All is well."),
        (["ok", "warning"], True, "A run works; 1 thing could be better."),
        (["failed", "warning"], False, "A run would not work: 1 of 2 checks failed; what to do is below each."),
    ],
)
def test_the_report_ends_with_a_summary(
    verdicts: list[str], works: bool, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [Check("level", Verdict(verdict), "text") for verdict in verdicts]
    monkeypatch.setattr(command, "guarded", lambda name, *_: checks if name == "level" else [])
    assert command.run(LiveSettings(), as_json=False) is works
    assert capsys.readouterr().out.splitlines()[-1] == end


# --- the guard ---


@pytest.mark.slow
def test_a_check_runs_in_another_process_without_output(capfd: pytest.CaptureFixture[str]) -> None:
    found = guarded("any", doctor_checks.works, given("audio.device", "desk"), _TIMEOUT_S, "")
    assert [check.text for check in found] != ["desk", str(os.getpid())]
    assert found[0] == Check("device", Verdict.OK, "desk")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checks", "timeout_s", "text", "cure"),
    [
        (doctor_checks.raises, _TIMEOUT_S, "LookupError: nothing there", "report it"),
        (doctor_checks.hangs, 0.5, "not answered for 0.5 s", "Restart it."),
        (doctor_checks.dies, _TIMEOUT_S, "SIGKILL", "report it"),
        (doctor_checks.exits, _TIMEOUT_S, "exit code 3", "report it"),
    ],
)
def test_a_broken_check_is_a_line_of_the_report(checks: Checks, timeout_s: float, text: str, cure: str) -> None:
    check = only(guarded("any", checks, LiveSettings(), timeout_s, "Restart it."))
    assert (check.name, check.verdict) == ("any", Verdict.FAILED)
    assert text in check.text
    assert cure in check.cure


# --- sound ---


@pytest.mark.slow
def test_music_has_a_level(in_server: SoundServer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", music(10.0, n_channels=2), 44_100)
    player = in_server.play(tmp_path / "song.wav")
    try:
        check = only(guarded("level", sound.level, LiveSettings(), _TIMEOUT_S, ""))
    finally:
        player.kill()
    assert check.verdict is Verdict.OK, check
    assert "44100 Hz, 2 channels: -" in check.text


@pytest.mark.slow
def test_silence_is_a_warning_and_a_missing_input_fails(in_server: SoundServer) -> None:
    settings = given("level.silence_db", -70)
    check = only(guarded("level", sound.level, settings, _TIMEOUT_S, ""))
    assert check.verdict is Verdict.WARNING
    assert "silence (below -70 dBFS)" in check.text
    check = only(guarded("level", sound.level, given("audio.device", "Nagra"), _TIMEOUT_S, ""))
    assert check.verdict is Verdict.FAILED
    assert "'Nagra'" in check.text
    assert "realtime-mer devices" in check.cure


@pytest.mark.slow
def test_the_server_and_its_sources(in_server: SoundServer) -> None:
    found = {check.name: check for check in guarded("PortAudio", sound.inputs, LiveSettings(), _TIMEOUT_S, "")}
    assert found["sound server"].text == "1 source, 1 of what is playing"
    assert found["PortAudio"].verdict is found["inputs"].verdict is Verdict.OK


@pytest.mark.slow
def test_a_sound_server_that_hangs_is_a_line_of_the_report(in_server: SoundServer) -> None:
    os.kill(int(in_server.pid()), signal.SIGSTOP)
    try:
        check = only(guarded("PortAudio", sound.inputs, LiveSettings(), 1.0, "Restart it."))
    finally:
        os.kill(int(in_server.pid()), signal.SIGCONT)
    assert (check.name, check.verdict, check.cure) == ("PortAudio", Verdict.FAILED, "Restart it.")


def test_a_file_needs_no_device(tmp_path: Path) -> None:
    song = tmp_path / "song.flac"

    def check(file: str = str(song)) -> Check:
        return only(sound.level(given("input.file", file)))

    assert (check().verdict, check().text) == (Verdict.FAILED, "There is no file song.flac.")
    song.write_text("words")
    assert check().verdict is Verdict.FAILED
    assert str(tmp_path) not in check().text
    soundfile.write(song, np.zeros(100), 44_100)
    assert check().verdict is check("-").verdict is Verdict.SKIPPED


# --- the network ---


def target(host: str, port: int = 9000, transport: str = "udp") -> Check:
    return only(network.targets(given("osc.targets", [{"host": host, "port": port, "transport": transport}])))


def test_the_program_that_listens_at_a_target_is_named(taken: tuple[socket.socket, int]) -> None:
    check = target(HERE, taken[1])
    assert check.verdict is Verdict.OK
    if sys.platform == "linux":
        assert f"(process {os.getpid()}) has this port" in check.text


def test_an_unused_target_port_is_a_warning_and_stays_free() -> None:
    port = free_port()
    for _ in range(2):
        check = target(HERE, port)
        assert check.verdict is Verdict.WARNING
        assert f"osc-monitor {port}" in check.cure


def test_targets_on_other_computers_and_none() -> None:
    check = target("lights.invalid")
    assert (check.verdict, check.text.partition(": ")[0]) == (Verdict.FAILED, "lights.invalid:9000")
    for check in (target("192.0.2.7", 7700), target("239.1.2.3", 7700, "multicast")):
        assert check.verdict is Verdict.OK
    assert only(network.targets(given("osc.targets", []))).verdict is Verdict.SKIPPED


def test_a_port_in_use_fails_and_is_left_to_its_program(taken: tuple[socket.socket, int]) -> None:
    holder, port = taken
    control, query = network.listening(given("control.listen", str(port)))
    assert (control.verdict, query.verdict) == (Verdict.FAILED, Verdict.SKIPPED)
    assert "--control" in control.cure
    with contextlib.closing(udp_socket()) as sender:
        sender.sendto(b"still here", (HERE, port))
    holder.settimeout(_TIMEOUT_S)
    assert holder.recv(100) == b"still here"
    assert network.listening(given("control.listen", str(free_port())))[0].verdict is Verdict.OK


# --- the program ---


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_checksum_is_that_of_the_model(name: str) -> None:
    """After training: cd realtime_mer/models && sha256sum default.safetensors > default.safetensors.sha256"""
    path = chosen_checkpoint_path(ModelSettings(name))
    assert software.expected_sha256(name) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_shipped_model_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = only(software.model(LiveSettings()))
    assert shipped.verdict is Verdict.OK
    assert "comes with realtime-mer" in shipped.text
    monkeypatch.setattr(software, "expected_sha256", lambda _name: "0" * 64)
    changed = only(software.model(LiveSettings()))
    assert (changed.verdict, changed.cure) == (Verdict.FAILED, "Reinstall realtime-mer.")
    (tmp_path / "mine.safetensors").write_bytes(default_checkpoint_path().read_bytes())
    own = only(software.model(given("model.checkpoint", str(tmp_path / "mine.safetensors"))))
    assert own.verdict is Verdict.OK
    assert own.text.startswith("mine.safetensors, your own")


@pytest.mark.parametrize("n_bytes", [None, 5000])
def test_a_model_that_is_missing_or_damaged(n_bytes: int | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    if n_bytes is not None:
        path.write_bytes(default_checkpoint_path().read_bytes()[:n_bytes])
    check = only(software.model(given("model.checkpoint", str(path))))
    assert check.verdict is Verdict.FAILED
    assert "mine.safetensors" in check.text
    assert str(tmp_path) not in check.text


def test_a_folder_to_record_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(name: str) -> Verdict:
        return only(software.recording(given("recording.directory", str(tmp_path / name)))).verdict

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
        return only(software.log(given("log.file", name)))

    assert check(str(tmp_path / "new" / "night.log")).verdict is check("-").verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []
    song = tmp_path / "song.wav"
    song.write_bytes(b"RIFF")
    assert check(str(song)).text == "song.wav is not a log of realtime-mer, so it is not written to."
    assert check(str(tmp_path)).text == f"{tmp_path.name} is not a file."
    assert check(str(song / "night.log")).text.startswith("night.log cannot be written: ")
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
    assert only(software.window(given("display.plot", False))).verdict is Verdict.SKIPPED


def test_no_ffmpeg_is_a_warning_and_opensmile_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert only(software.ffmpeg(LiveSettings())).verdict is Verdict.WARNING
    assert only(software.opensmile(LiveSettings())).verdict is Verdict.OK
    assert only(software.opensmile(given("model.name", "open"))).verdict is Verdict.SKIPPED


# --- the machine ---


@pytest.mark.slow
def test_headroom_processes_all_of_the_music() -> None:
    # 15 s: frames of 1 s every 0.5 s.
    assert "28 predictions" in only(machine.headroom(LiveSettings())).text


def test_headroom_limits() -> None:
    verdicts = [machine._headroom_check(ratio, 28).verdict for ratio in (1.29, 1.31, 2.9, 3.0)]
    assert verdicts == [Verdict.FAILED, Verdict.WARNING, Verdict.WARNING, Verdict.OK]


def test_sleeps_and_priority() -> None:
    niceness = os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None
    clock, priority = machine.scheduling(LiveSettings())
    assert "sleeps of 5 ms" in clock.text
    assert priority.verdict is Verdict.OK
    assert niceness is None or os.getpriority(os.PRIO_PROCESS, 0) == niceness


# --- the command ---


@pytest.mark.slow
def test_the_command_reports_all_checks_as_json(server: SoundServer, tmp_path: Path) -> None:
    """The device is missing; all other checks pass."""
    arguments = ["doctor", "--json", "--no-plot", "--device", "Nagra", "--osc", f"{HERE}:{free_port()}"]
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
