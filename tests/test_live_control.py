"""A running program that is steered over OSC, by liblo's oscsend, and attacked: one run, looked at in turn."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import soundfile
from checkpoints import music, small_checkpoint
from live_runs import LiveRun, Received, oscdump, without_display
from osc_corpus import BAD
from osc_sockets import free_port

from realtime_mer.models.checkpoint import save_checkpoint

pytestmark = pytest.mark.slow
ENVIRONMENT = without_display(os.environ)


class Steered:
    """A run over a song without end, in a folder of its own, and what it sends."""

    def __init__(self, folder: Path, live: LiveRun, port: int, received: Received) -> None:
        self.folder, self.live, self.port, self.received = folder, live, port, received

    def ask(self, name: str, types: str = "", *values: str) -> tuple[bool, str]:
        """Sends a command by oscsend; whether it was carried out, and the text of its answer."""
        n_before = len(self.answers())
        self.send(name, types, *values)
        self.received.wait_for(lambda _: len(self.answers()) > n_before, f"an answer to {name}")
        address, answered, text = self.answers()[-1]
        assert answered == name
        return address.endswith("/ack"), text

    def send(self, name: str, types: str = "", *values: str) -> None:
        """Sends a command by oscsend, and waits for no answer."""
        command = ["oscsend", "127.0.0.1", str(self.port), f"/mer/control/{name}", *([types] if types else []), *values]
        subprocess.run(command, check=True, timeout=30)

    def wait_for_frames(self, n: int) -> None:
        """Waits until this many more predictions have come."""
        n_before = len(self.received.numbers("/mer/frame"))
        self.received.wait_for(lambda got: len(got.numbers("/mer/frame")) >= n_before + n, f"{n} predictions")

    def answers(self) -> list[tuple[str, str, str]]:
        """Address, command and text of each, in order."""
        found = [(a, v) for a, v in list(self.received.order) if a in ("/mer/status/ack", "/mer/status/error")]
        # oscdump quotes strings, and the texts have spaces in them.
        return [(address, *" ".join(values).strip('"').split('" "', 1)) for address, values in found]  # type: ignore[misc]


def test_a_run_is_steered_over_osc_and_attacked(tmp_path: Path) -> None:
    if shutil.which("oscsend") is None:
        pytest.skip("no oscsend on this machine: this test needs an independent OSC sender (Debian's liblo-tools)")
    soundfile.write(tmp_path / "song.wav", music(4.0, n_channels=2), 44_100, subtype="PCM_16")
    save_checkpoint(tmp_path / "model.safetensors", small_checkpoint())
    port, control = free_port(), free_port()
    arguments = ["--input", "song.wav", "--loop", "--no-plot", "--checkpoint", "model.safetensors"]
    arguments += ["--osc", f"127.0.0.1:{port}", "--control", str(control)]
    with oscdump(port) as received, LiveRun(*arguments, environment=ENVIRONMENT, folder=tmp_path) as live:
        steered = Steered(tmp_path, live, control, received)
        steered.wait_for_frames(2)
        check_every_kind_of_command_is_answered(steered)
        check_pause_and_reset(steered)
        check_recordings_go_nowhere_else(steered)
        record_in_the_middle(steered)
        check_bad_packets_change_nothing(steered)
        # Despite the pause, the reset and the attack.
        frames = received.numbers("/mer/frame")
        assert frames == list(range(len(frames)))
        assert received.numbers("/mer/status/drops")[-1] == 0
        code, _, errors = live.end()
    assert (code, "Traceback" in errors) == (0, False)
    assert [row["text"] for row in rows(tmp_path / "middle" / "marks.csv")] == ["the solo"]
    assert len(rows(tmp_path / "middle" / "predictions.csv")) >= 6
    # It began in the middle of the run, when another one had just stopped.
    check_replay(tmp_path, "next", at_least=2)


def check_every_kind_of_command_is_answered(steered: Steered) -> None:
    assert steered.ask("ping") == (True, "pong")
    assert steered.ask("rate", "f", "60") == (True, "60 Hz")
    assert steered.ask("rate", "fi", "60", "2") == (False, "Expected a target from 1 to 1, got 2.")
    assert steered.ask("smoothing", "sf", "linear", "0.5") == (True, "linear, 0.5 s")
    assert steered.ask("delay", "f", "20") == (True, "20 ms")
    assert steered.ask("device", "s", "pulse") == (False, "The input is a file, so there is no device to change.")
    ok, text = steered.ask("explode")
    assert not ok
    assert "command" in text


def check_pause_and_reset(steered: Steered) -> None:
    assert steered.ask("pause") == (True, "paused")
    steered.received.wait_for(lambda got: got.texts("/mer/status/source")[-1] == "paused", "the pause")
    assert steered.ask("resume") == (True, "resumed")
    steered.wait_for_frames(2)
    assert steered.ask("reset")[0]
    steered.wait_for_frames(2)


def check_recordings_go_nowhere_else(steered: Steered) -> None:
    before = sorted(steered.folder.iterdir())
    for folder in ("../outside", "/tmp/outside", "..", "a/b", ".hidden", "song.wav"):
        ok, text = steered.ask("record/start", "s", folder)
        assert not ok, text
    assert sorted(steered.folder.iterdir()) == before
    assert not (steered.folder.parent / "outside").exists()


def record_in_the_middle(steered: Steered) -> None:
    got = steered.received
    assert steered.ask("record/start", "s", "middle") == (True, "middle")
    assert steered.ask("record/start", "s", "other") == (False, "A recording is already being made, in middle.")
    assert not (steered.folder / "other").exists()
    assert steered.ask("mark", "s", "the solo")[0]
    got.wait_for(lambda got: 1 in got.numbers("/mer/status/recording"), "that it records")
    steered.wait_for_frames(6)
    n_answers = len(steered.answers())
    steered.send("record/stop")
    steered.send("record/start", "s", "next")
    got.wait_for(lambda _: len(steered.answers()) >= n_answers + 2, "both answers")
    assert steered.answers()[n_answers:] == [
        ("/mer/status/ack", "record/stop", "middle"),
        ("/mer/status/ack", "record/start", "next"),
    ]
    steered.wait_for_frames(3)
    assert steered.ask("record/stop") == (True, "next")
    assert not steered.ask("record/stop")[0]
    steered.wait_for_frames(1)
    assert got.numbers("/mer/event/mark") == [1]


def check_bad_packets_change_nothing(steered: Steered) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for packet in BAD.values():
            if packet:
                sender.sendto(packet[:65_507], ("127.0.0.1", steered.port))
            assert steered.live.process.poll() is None
    steered.received.wait_for(lambda got: got.numbers("/mer/status/ignored")[-1:] > [0], "a count")
    n_answers = len(steered.answers())

    def is_answered(_: Received) -> bool:
        # Again and again, since it is lost while the port's buffer is full.
        steered.send("ping")
        return len(steered.answers()) > n_answers

    steered.received.wait_for(is_answered, "an answer to ping")
    assert steered.answers()[-1] == ("/mer/status/ack", "ping", "pong")
    steered.wait_for_frames(2)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_replay(folder: Path, name: str, at_least: int) -> None:
    """Of a recording of so many predictions that began in the middle of a run."""
    recorded = rows(folder / name / "predictions.csv")
    assert len(recorded) >= at_least
    assert int(recorded[0]["index"]) > 0
    arguments = LiveRun.command("replay", name, "--fast", "--no-osc", "--no-plot", "--no-terminal")
    replayed = subprocess.run(
        [*arguments, "--checkpoint", "model.safetensors"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert replayed.returncode == 0, replayed.stderr
    assert f"All {len(recorded)} predictions that were compared are identical" in replayed.stderr
