"""The main thread, lent to what another thread does."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from realtime_mer.window.mainthread import MainThread


def test_the_work_is_done_elsewhere_and_what_it_asks_for_here() -> None:
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


def test_what_is_raised_comes_out_where_it_is_waited_for() -> None:
    main_thread = MainThread()

    def fail() -> None:
        raise OSError("no paint")

    def work() -> None:
        with pytest.raises(OSError, match="no paint"):
            main_thread.do(fail)
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
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
def test_work_goes_on_where_the_main_thread_is_left_and_its_end_is_the_process_s(end: str, code: int) -> None:
    """Signals are still handled, and what was printed is not lost."""
    told = subprocess.run(
        [sys.executable, "-c", LEFT.replace("{end}", end)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (code, "without it\n", "")
