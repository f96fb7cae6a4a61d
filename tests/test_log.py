"""The log: its lines, its limited size, and that no caller waits for the disk."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import soundfile
from checkpoints import music
from live_runs import LiveRun, without_display
from logged import LINE, RUNNING, Clock, log, logged
from osc_sockets import GENEROUS_S, eventually, free_port

from realtime_mer import log as logs
from realtime_mer import wiring
from realtime_mer.cli import main
from realtime_mer.config import LiveSettings, LogSettings
from realtime_mer.log import LOGGER, LogError, begin, end
from realtime_mer.log.sink import LogSink
from realtime_mer.osc.messages import Message, message_packet

ENVIRONMENT = without_display(os.environ)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "night.log"


# --- lines


def test_a_line_has_local_time_stream_time_level_and_message(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "night.log"
    sink = LogSink(list)
    with log(path, display=replace(LiveSettings().display, plot=False)):
        sink.status(replace(RUNNING, time_s=12.345))
        LOGGER.warning("%d of %s", 3, "them")
    first, settings, _, line, last = path.read_text(encoding="utf-8").splitlines()
    found = LINE.fullmatch(line)
    assert found is not None
    assert (found["stream_s"], found["level"], found["message"]) == ("12.35", "WARNING", "3 of them")
    when = datetime.fromisoformat(found["when"])
    assert when.utcoffset() is not None
    assert abs(when.timestamp() - time.time()) < GENEROUS_S
    assert re.search(rf"INFO      realtime-mer [0-9.]+ begins: Python .*, process {os.getpid()}$", first)
    assert settings.endswith(f"with {{display = {{plot = False}}, log = {{file = {str(path)!r}}}}}")
    assert last.endswith("realtime-mer ends with exit code 0")


def test_messages_stay_on_their_line_and_are_bounded(path: Path) -> None:
    with log(path):
        LOGGER.info("a\nb\r\x1b[2J\u2028c")
        LOGGER.info("x" * 100_000)
        try:
            raise ValueError("one\n2026-01-01T00:00:00 forged")
        except ValueError:
            LOGGER.exception("a fault")
    assert logged(path)[0] == r"a\nb\r\x1b[2J\u2028c"
    assert len(logged(path)[1]) == 2000
    assert "\n    ValueError: one\n    2026-01-01T00:00:00 forged\n" in path.read_text(encoding="utf-8")
    # A file name that is not UTF-8.
    record = logging.makeLogRecord({"name": "realtime_mer", "msg": "a name\udc80"})
    assert logs._Formatter().format(record).endswith(r"a name\udc80")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["DEBUG", "INFO", "aiohttp.server: odd", "ERROR"]),
        ("info", ["INFO", "aiohttp.server: odd", "ERROR"]),
        ("error", ["aiohttp.server: odd", "ERROR"]),
    ],
)
def test_the_level_is_a_filter_and_other_libraries_log_warnings(level: str, expected: list[str], path: Path) -> None:
    with log(path, level):
        LOGGER.debug("DEBUG")
        logging.getLogger("realtime_mer.some.module").info("INFO")
        logging.getLogger("aiohttp.server").info("usual")
        logging.getLogger("aiohttp.server").warning("odd")
        LOGGER.error("ERROR")
    assert logged(path) == expected


def test_logging_is_restored_at_the_end_and_without_a_log_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> tuple[object, ...]:
        return list(logging.getLogger().handlers), LOGGER.level, threading.excepthook, threading.active_count()

    before = state()
    with log(tmp_path / "night.log"):
        assert state() != before
    eventually(lambda: state() == before)
    begin(LiveSettings())
    LOGGER.error("discarded")
    LogSink(list).status(RUNNING)
    end(1)
    assert capsys.readouterr() == ("", "")


def test_a_log_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with log("-"):
        LOGGER.warning("a line")
    assert re.findall("INFO|WARNING", capsys.readouterr().err) == ["INFO", "INFO", "WARNING", "INFO"]


def test_a_crash_in_a_thread_is_logged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log(path):
        thread = threading.Thread(target=[].pop, name="some thread")
        thread.start()
        thread.join()
    assert logged(path) == ["thread some thread: this should not have happened"]
    assert "IndexError" in path.read_text(encoding="utf-8")
    assert "a fault in the thread some thread: IndexError" in capsys.readouterr().err


def test_the_traceback_of_a_bug_is_in_the_log_and_not_on_the_screen(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_settings: LiveSettings) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(wiring, "listen", broken)
    assert main(["--log-file", str(path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "realtime-mer: error: ValueError: a bug",
        f"This should not have happened. {path} has more; please report it.",
    ]
    text = path.read_text(encoding="utf-8")
    assert "\n    ValueError: a bug\n" in text
    assert text.endswith("realtime-mer ends with exit code 1\n")


def test_a_source_that_does_not_open_is_logged(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "raise_priority", lambda: None)
    assert main(["--input", "nowhere.wav", "--no-plot", "--no-osc", "--log-file", str(path)]) == 1
    (error,) = logged(path, "ERROR")
    assert capsys.readouterr().err == f"realtime-mer: error: {error}\n"


# --- a file of bounded size, on any disk


def test_old_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 10_000)
    monkeypatch.setattr(logs, "_MOST_WAITING", 10**6)
    path = tmp_path / "night.log"
    with log(path):
        for n in range(2000):
            LOGGER.warning("line %d %s", n, "x" * 50)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["night.log", *(f"night.log.{n}" for n in range(1, 6))]
    assert all(file.stat().st_size <= 10_000 for file in tmp_path.iterdir())
    kept = [logged(tmp_path / f"night.log{end}") for end in (".5", ".4", ".3", ".2", ".1", "")]
    numbers = [int(line.split()[1]) for lines in kept for line in lines]
    assert numbers == list(range(numbers[0], 2000)), "the newest lines, without a gap"


def test_a_flood_is_limited_except_for_the_program_s_own_warnings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "time", Clock())
    with log(path):
        for n in range(1000):
            LOGGER.info("line %d", n)
            logging.getLogger("aiohttp.server").error("line %d", n)
        LOGGER.warning("the device is lost")
    lines = logged(path)
    assert len(lines) == 300, "300 with the first two lines, and these two"
    assert lines[-2:] == ["1702 lines were left out here: too many at once", "the device is lost"]


def test_no_caller_waits_for_a_disk_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, hangs = threading.Event(), threading.Event()
    emit = logs._LogFile.emit

    def hanging(self: Any, record: logging.LogRecord) -> None:
        hangs.set()
        assert goes_on.wait(GENEROUS_S)
        emit(self, record)

    monkeypatch.setattr(logs._LogFile, "emit", hanging)
    with log(path):
        assert hangs.wait(GENEROUS_S)
        for n in range(3000):
            LOGGER.warning("line %d", n)
        assert logs._log is not None
        assert logs._log.queue.waiting.qsize() == 1000
    assert not path.read_text(encoding="utf-8"), "the end does not wait for the disk"
    goes_on.set()
    eventually(lambda: len(logged(path)) >= 998)
    assert logged(path)[0] == "line 0"


def test_lines_that_cannot_be_written_are_counted_and_logging_goes_on(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the middle of a line, and has room again later."""
    full = threading.Event()
    flush = logs._LogFile.flush

    def failing(self: Any) -> None:
        if full.is_set():
            os.write(self.stream.fileno(), b"half a li")
            self.stream.close()
            raise OSError(28, os.strerror(28))
        flush(self)

    monkeypatch.setattr(logs._LogFile, "flush", failing)
    with log(path):
        LOGGER.info("before")
        eventually(lambda: "before" in path.read_text(encoding="utf-8"))
        full.set()
        LOGGER.info("lost")
        LOGGER.info("lost too")
        eventually(lambda: path.read_text(encoding="utf-8").count("half a li") == 2)
        full.clear()
        LOGGER.info("after")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.endswith(("after", "No space left on device"))] == lines[-3:-1]
    assert lines[-2].endswith("2 lines before this could not be written: No space left on device")
    assert capsys.readouterr().err.splitlines() == [
        *("realtime-mer: no more lines are logged: No space left on device", "realtime-mer: lines are logged again."),
    ]


def test_a_torn_line_ends_before_the_next_run(path: Path) -> None:
    for _ in range(2):
        with log(path):
            pass
        path.write_bytes(path.read_bytes()[:-5])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [" begins: " in line for line in lines] == [True, False, False] * 2


def test_other_files_are_not_written_to(tmp_path: Path) -> None:
    song, pipe = tmp_path / "song.wav", tmp_path / "pipe"
    song.write_bytes(b"RIFF" + bytes(3_000_000))
    os.mkfifo(pipe)
    for path, reason in (
        (song, r"song\.wav is not a log of realtime-mer"),
        (tmp_path, "is not a file"),
        (pipe, "is not a file"),
        (song / "night.log", r"night\.log cannot be written: File exists\."),
    ):
        with pytest.raises(LogError, match=reason):
            begin(LiveSettings(log=LogSettings(str(path))))
    assert song.stat().st_size == 3_000_004
    assert set(tmp_path.iterdir()) == {song, pipe}


# --- whole processes


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs this Python code."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=GENEROUS_S, check=False
    )


@pytest.mark.slow
def test_a_crash_in_native_code_leaves_its_traceback_in_the_newest_file(tmp_path: Path) -> None:
    script = """
import ctypes, time
from realtime_mer import log as logs
from realtime_mer.config import LiveSettings, LogSettings
logs._FILE_BYTES = 1000
logs.begin(LiveSettings(log=LogSettings("night.log")))
for n in range(20):
    logs.LOGGER.warning("line %d %s", n, "x" * 100)
while logs._log.queue.waiting.qsize():
    time.sleep(0.01)
time.sleep(0.1)
def crash_in_here():
    ctypes.string_at(0)
crash_in_here()
"""
    assert run(tmp_path, script).returncode == -signal.SIGSEGV
    assert "in crash_in_here" in (tmp_path / "night.log").read_text(encoding="utf-8")


def test_what_libraries_print_goes_to_the_log(tmp_path: Path) -> None:
    """Whether this process or one that it starts prints it; our own messages stay on standard error."""
    script = f"""
import os, subprocess, sys
from realtime_mer import log as logs
from realtime_mer.config import LiveSettings, LogSettings
from realtime_mer.log.libraries import log_what_libraries_print
log_what_libraries_print()
logs.begin(LiveSettings(log=LogSettings({str(tmp_path / "night.log")!r}, level="debug")))
os.write(2, b"ALSA lib pcm.c: underrun occurred\\n")
subprocess.run([sys.executable, "-c", "import os; os.write(2, b'a child\\\\n')"], check=True)
logs.notify("ours")
sys.stdin.read()
logs.end(0)
"""
    path = tmp_path / "night.log"
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=ENVIRONMENT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: path.exists() and "a child" in path.read_text(encoding="utf-8"))
    _, errors = process.communicate(timeout=GENEROUS_S)
    assert (process.returncode, errors) == (0, "realtime-mer: ours\n")
    lines = logged(path)
    assert "a library prints: ALSA lib pcm.c: underrun occurred" in lines
    assert "a library prints: a child" in lines


@pytest.mark.slow
def test_a_full_disk_does_not_end_a_run(tmp_path: Path) -> None:
    """A file may have 700 bytes: later lines are lost, and the run goes on to its end."""
    soundfile.write(tmp_path / "song.wav", music(3.0), 44_100)
    script = (
        "import resource, sys; from realtime_mer.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = "--input song.wav --fast --no-plot --no-osc --log-file night.log --log-level debug"
    done = run(tmp_path, script, *arguments.split())
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4
    assert done.stderr.splitlines() == ["realtime-mer: no more lines are logged: File too large"]
    assert (tmp_path / "night.log").stat().st_size <= 700


@pytest.mark.slow
def test_a_live_run_logs_its_commands_and_its_end(tmp_path: Path) -> None:
    path, control, osc = tmp_path / "night.log", free_port(), free_port()
    arguments = f"--input - --no-plot --no-terminal --osc 127.0.0.1:{osc} --control {control} --log-file {path}"
    with LiveRun(*arguments.split(), environment=ENVIRONMENT, stdin=subprocess.PIPE, folder=tmp_path) as live:
        eventually(lambda: path.exists() and "is running" in path.read_text(encoding="utf-8"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as desk:
            for message in (
                Message("/mer/control/mark", "s", ("the drop",)),
                Message("/mer/control/rate", "f", (6000.0,)),
                Message("/mer/control/record/start", "s", ("take one",)),
            ):
                desk.sendto(message_packet(message), ("127.0.0.1", control))
        eventually(lambda: "recording into take one" in path.read_text(encoding="utf-8"))
        assert live.end() == (0, "", "")
    lines = logged(path)
    for line in (
        "command mark the drop: mark 1 at 0.0 s",
        "command rate 6000.0: refused: Expected a rate from 1 to 120 Hz, got 6000.0.",
        "command record/start take one: take one",
        "SIGINT: the run ends",
    ):
        assert line in lines
    assert lines[-1].startswith("in all: 0 predictions")
    assert path.read_text(encoding="utf-8").endswith("realtime-mer ends with exit code 0\n")
