"""The main thread, which another thread's work uses."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from realtime_mer.window.mainthread import MainThread


def test_the_work_runs_in_another_thread_and_its_jobs_in_the_main_thread() -> None:
    main_thread = MainThread()
    seen: list[threading.Thread] = []

    def work() -> str:
        seen.append(threading.current_thread())
        seen.extend(main_thread.do(threading.current_thread) for _ in range(2))
        return "done"

    assert main_thread.run(work) == "done"
    assert seen[0] is not threading.main_thread()
    assert seen[1:] == 2 * [threading.main_thread()]
    assert not seen[0].is_alive()


def test_errors_are_raised_in_the_thread_that_waits() -> None:
    main_thread = MainThread()

    def fail() -> None:
        raise OSError("no paint")

    def work() -> None:
        with pytest.raises(OSError, match="no paint"):
            main_thread.do(fail)
        raise BrokenPipeError("the pipe is closed")

    with pytest.raises(BrokenPipeError, match="the pipe is closed"):
        main_thread.run(work)


LEFT = """
import os, signal, sys, threading, time
from realtime_mer.window.mainthread import MainThread, MainThreadLostError
main_thread, stop = MainThread(), threading.Event()
signal.signal(signal.SIGINT, lambda *_: stop.set())
def work():
    try:
        main_thread.do(lambda: main_thread.leave(exit_code))
    except MainThreadLostError:
        print("without it")
    os.kill(os.getpid(), signal.SIGINT)
    stop.wait()
    {end}
def exit_code(outcome):
    try:
        return outcome()
    except OSError:
        return 4
main_thread.run(work)
print("never")
"""


@pytest.mark.parametrize(("end", "code"), [("return 3", 3), ("raise OSError()", 4)])
def test_the_work_goes_on_without_the_main_thread_and_sets_the_exit_code(end: str, code: int) -> None:
    """Signals are still handled, and printed text is not lost."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT.replace("{end}", end)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "without it\n", "")
