"""The log: its lines, that it stays small and whole, and that nobody ever waits for it."""

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
from logged import LINE, RUNNING, TIMEOUT_S, Clock, log, told, wait_for
from osc_sockets import free_port

from realtime_mer import log as logs
from realtime_mer.config import LiveSettings, LogSettings
from realtime_mer.log import LOGGER, LogError, begin, end
from realtime_mer.log.sink import LogSink
from realtime_mer.osc.messages import Message, message_packet

ENVIRONMENT = without_display(os.environ)


# --- lines


def test_a_line_has_local_time_stream_time_level_and_words(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "night.log"
    sink = LogSink(list)
    with log(path, display=replace(LiveSettings().display, plot=False)):
        sink.status(replace(RUNNING, time_s=12.345))
        LOGGER.warning("%d of %s", 3, "them")
    first, settings, _, line, last = path.read_text(encoding="utf-8").splitlines()
    found = LINE.fullmatch(line)
    assert found is not None
    assert (found["stream_s"], found["level"], found["words"]) == ("12.35", "WARNING", "3 of them")
    when = datetime.fromisoformat(found["when"])
    assert when.utcoffset() is not None
    assert abs(when.timestamp() - time.time()) < TIMEOUT_S
    assert re.search(rf"INFO      realtime-mer [0-9.]+ begins: Python .*, process {os.getpid()}$", first)
    assert settings.endswith(f"with {{display = {{plot = False}}, log = {{file = {str(path)!r}}}}}")
    assert last.endswith("realtime-mer ends with exit code 0")


def test_no_text_begins_a_line_of_its_own_or_goes_on_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "night.log"
    with log(path):
        LOGGER.info("a\nb\r\x1b[2J\u2028c")
        LOGGER.info("x" * 100_000)
        try:
            raise ValueError("one\n2026-01-01T00:00:00 forged")
        except ValueError:
            LOGGER.exception("a fault")
    assert told(path)[0] == r"a\nb\r\x1b[2J\u2028c"
    assert len(told(path)[1]) == 2000
    text = path.read_text(encoding="utf-8")
    assert "\n    ValueError: one\n    2026-01-01T00:00:00 forged\n" in text
    assert "Traceback" in text
    # As in a file's name that is no UTF-8.
    record = logging.makeLogRecord({"name": "realtime_mer", "msg": "a name\udc80"})
    assert logs._Lines().format(record).endswith(r"a name\udc80")


@pytest.mark.parametrize(("level", "n_lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_says_how_much(level: str, n_lines: int, tmp_path: Path) -> None:
    path = tmp_path / "night.log"
    with log(path, level):
        for n, grave in enumerate((logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)):
            LOGGER.log(grave, "line %d", n)
    assert told(path) == [f"line {n}" for n in range(4 - n_lines, 4)]


def test_what_other_libraries_warn_of_is_in_it_with_their_name(tmp_path: Path) -> None:
    path = tmp_path / "night.log"
    with log(path, "debug"):
        logging.getLogger("aiohttp.server").warning("odd")
        logging.getLogger("aiohttp.server").info("usual")
        logging.getLogger("realtime_mer.some.module").info("ours")
    assert told(path) == ["aiohttp.server: odd", "ours"]


def test_without_a_log_nothing_is_printed_and_after_one_all_is_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), LOGGER.level, threading.excepthook, threading.active_count())
    with log(tmp_path / "night.log"):
        pass
    wait_for(lambda: threading.active_count() == before[3], "the log's threads end")
    assert (list(root.handlers), LOGGER.level, threading.excepthook) == before[:3]
    begin(LiveSettings())
    LOGGER.error("nobody hears this")
    LogSink(list).status(RUNNING)
    end(1)
    assert capsys.readouterr() == ("", "")


# --- a file of bounded size, on a disk that may be anything


def test_old_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 10_000)
    monkeypatch.setattr(logs, "_MOST_WAITING", 10**6)
    path = tmp_path / "night.log"
    with log(path):
        for n in range(2000):
            LOGGER.warning("line %d %s", n, "x" * 50)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["night.log", *(f"night.log.{n}" for n in range(1, 6))]
    assert all(file.stat().st_size <= 10_000 for file in tmp_path.iterdir())
    kept = [told(tmp_path / f"night.log{end}") for end in (".5", ".4", ".3", ".2", ".1", "")]
    numbers = [int(line.split()[1]) for lines in kept for line in lines]
    assert numbers == list(range(numbers[0], 2000)), "the newest, without a gap"
    with log(path):
        LOGGER.info("a second run")
    assert told(path)[-1] == "a second run"


def test_a_flood_is_cut_and_warnings_of_ours_get_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "time", Clock())
    path = tmp_path / "night.log"
    with log(path):
        for n in range(1000):
            LOGGER.info("line %d", n)
            logging.getLogger("aiohttp.server").error("line %d", n)
        LOGGER.warning("the device is lost")
    lines = told(path)
    assert len(lines) == 300 - 2 + 2, "with its beginning 300, and the last two"
    assert lines[-2:] == ["1702 lines were left out here: too many at once", "the device is lost"]


def test_nobody_waits_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, hangs = threading.Event(), threading.Event()
    emit = logs._File.emit

    def hanging(self: Any, record: logging.LogRecord) -> None:
        hangs.set()
        assert goes_on.wait(TIMEOUT_S)
        emit(self, record)

    monkeypatch.setattr(logs._File, "emit", hanging)
    path = tmp_path / "night.log"
    with log(path):
        assert hangs.wait(TIMEOUT_S)
        for n in range(3000):
            LOGGER.warning("line %d", n)
        assert logs._log is not None
        assert logs._log._queue._waiting.qsize() == 1000
    assert not path.read_text(encoding="utf-8"), "all of it still waits, and the end did not wait for it"
    goes_on.set()
    wait_for(lambda: len(told(path)) >= 998, "what waited is written")
    assert told(path)[0] == "line 0"


def test_a_log_that_can_no_longer_be_written_ends_nothing_and_goes_on_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails in the middle of a line, as on a full disk, and a disk that has room again."""
    path = tmp_path / "night.log"
    full = threading.Event()
    flush = logs._File.flush

    def failing(self: Any) -> None:
        if full.is_set():
            os.write(self.stream.fileno(), b"half a li")
            self.stream.close()
            raise OSError(28, os.strerror(28))
        flush(self)

    monkeypatch.setattr(logs._File, "flush", failing)
    with log(path):
        LOGGER.info("before")
        wait_for(lambda: "before" in path.read_text(encoding="utf-8"), "the line before")
        full.set()
        LOGGER.info("lost")
        LOGGER.info("lost too")
        wait_for(lambda: path.read_text(encoding="utf-8").count("half a li") == 2, "two lines fail")
        full.clear()
        LOGGER.info("after")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.endswith(("after", "No space left on device"))] == lines[-3:-1]
    assert lines[-2].endswith("2 lines before this could not be written: No space left on device")
    assert capsys.readouterr().err.splitlines() == [
        *("realtime-mer: no more lines are logged: No space left on device", "realtime-mer: lines are logged again."),
    ]


def test_what_was_torn_ends_before_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "night.log"
    with log(path):
        pass
    path.write_bytes(path.read_bytes()[:-5])
    assert not path.read_bytes().endswith(b"\n")
    with log(path):
        pass
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [" begins: " in line for line in lines] == [True, False, False] * 2


def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(b"RIFF" + bytes(3_000_000))
    with pytest.raises(LogError, match=r"song\.wav is no log of realtime-mer, and is left alone"):
        begin(LiveSettings(log=LogSettings(str(song))))
    assert song.stat().st_size == 3_000_004
    assert list(tmp_path.iterdir()) == [song]
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(LogError, match="is no file: give another name"):
            begin(LiveSettings(log=LogSettings(str(path))))
    with pytest.raises(LogError, match=r"night\.log cannot be written: File exists\."):
        begin(LiveSettings(log=LogSettings(str(song / "night.log"))))


# --- whole processes


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


BROKEN = """
import sys, threading
from realtime_mer import wiring
from realtime_mer.cli import main
def broken(settings):
    if settings.osc.targets:
        thread = threading.Thread(target=lambda: [][0], name="some thread")
        thread.start()
        thread.join()
    raise ValueError("a bug")
wiring.listen = broken
sys.exit(main(sys.argv[1:]))
"""


def test_a_mistake_of_ours_is_in_the_log_and_the_screen_stays_clean(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", BROKEN, "--log-file", "night.log"], tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "realtime-mer: a fault in the thread some thread: IndexError; the log has more.",
        "realtime-mer: error: ValueError: a bug",
        "This should not have happened. night.log has more; please report it.",
    ]
    text = (tmp_path / "night.log").read_text(encoding="utf-8")
    assert "thread some thread: this should not have happened\n    Traceback" in text
    assert "IndexError" in text
    assert "\n    ValueError: a bug\n" in text
    assert text.endswith("realtime-mer ends with exit code 1\n")


def test_a_fault_in_a_librarys_own_code_leaves_its_traceback_in_the_newest_file(tmp_path: Path) -> None:
    script = f"""
import ctypes, time
from pathlib import Path
from realtime_mer import log as logs
from realtime_mer.config import LiveSettings, LogSettings
logs._FILE_BYTES = 1000
logs.begin(LiveSettings(log=LogSettings({str(tmp_path / "night.log")!r})))
for n in range(20):
    logs.LOGGER.warning("line %d %s", n, "x" * 100)
while logs._log._queue._waiting.qsize():
    time.sleep(0.01)
time.sleep(0.1)
def crash_in_here():
    ctypes.string_at(0)
crash_in_here()
"""
    done = run([sys.executable, "-c", script], tmp_path)
    assert done.returncode == -signal.SIGSEGV
    assert "in crash_in_here" in (tmp_path / "night.log").read_text(encoding="utf-8")


def test_a_full_disk_ends_no_run(tmp_path: Path) -> None:
    """No file may have more than 700 bytes: what comes after that is lost, and the run goes on to its end."""
    soundfile.write(tmp_path / "song.wav", music(3.0), 44_100)
    script = (
        "import resource, sys; from realtime_mer.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700)); sys.exit(main(sys.argv[1:]))"
    )
    given = [
        "--input",
        "song.wav",
        "--fast",
        "--no-plot",
        "--no-osc",
        "--log-file",
        "night.log",
        "--log-level",
        "debug",
    ]
    done = run([sys.executable, "-c", script, *given], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4
    assert done.stderr.splitlines() == ["realtime-mer: no more lines are logged: File too large"]
    assert (tmp_path / "night.log").stat().st_size <= 700


def test_a_live_run_tells_of_its_commands_and_its_end(tmp_path: Path) -> None:
    path, control, osc = tmp_path / "night.log", free_port(), free_port()
    given = f"--input - --no-plot --no-terminal --osc 127.0.0.1:{osc} --control {control} --log-file {path}"
    with LiveRun(*given.split(), environment=ENVIRONMENT, stdin=subprocess.PIPE, folder=tmp_path) as live:
        wait_for(lambda: path.exists() and "is running" in path.read_text(encoding="utf-8"), "it runs")
        assert live.process.stdin is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as desk:
            for message in (
                Message("/mer/control/mark", "s", ("the drop",)),
                Message("/mer/control/rate", "f", (6000.0,)),
                Message("/mer/control/record/start", "s", ("take one",)),
            ):
                desk.sendto(message_packet(message), ("127.0.0.1", control))
        wait_for(lambda: "recording into take one" in path.read_text(encoding="utf-8"), "the recording")
        code, output, errors = live.end()
    assert (code, output, errors) == (0, "", "")
    lines = told(path)
    assert "command mark the drop: mark 1 at 0.0 s" in lines
    assert "command rate 6000.0: refused: A rate from 1 to 120 Hz was expected, not 6000.0." in lines
    assert "command record/start take one: take one" in lines
    assert "SIGINT: the run is to end" in lines
    assert lines[-1].startswith("in all: 0 predictions")
    assert path.read_text(encoding="utf-8").endswith("realtime-mer ends with exit code 0\n")


def test_a_source_that_does_not_open_is_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "night.log"
    done = run(LiveRun.command("--input", "nowhere.wav", "--no-plot", "--log-file", str(path)), tmp_path)
    assert done.returncode == 1
    (error,) = told(path, "ERROR")
    assert done.stderr == f"realtime-mer: error: {error}\n"
    assert path.read_text(encoding="utf-8").endswith("realtime-mer ends with exit code 1\n")


def test_to_standard_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", music(3.0), 44_100)
    given = ["--input", "song.wav", "--fast", "--no-plot", "--no-terminal", "--no-osc", "--log-file", "-"]
    done = run(LiveRun.command(*given), tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert all(LINE.fullmatch(line) for line in done.stderr.splitlines()), done.stderr
    assert "song.wav is running" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "song.wav"]
