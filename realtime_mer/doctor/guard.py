"""Runs checks in a process of their own: if they raise, hang or end the process, that is a line of the report."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from realtime_mer.config import LiveSettings
from realtime_mer.doctor import Check, failed

Checks = Callable[[LiveSettings], list[Check]]

_REPORT_IT = "Please report it, with these lines."
_END_TIMEOUT_S = 1.0


def guarded(name: str, checks: Checks, settings: LiveSettings, timeout_s: float, if_it_hangs: str) -> list[Check]:
    """The results of the checks; if there are none, one failed check of this name with the reason. Never raises.

    checks: a function at the top of a module. if_it_hangs: the cure after timeout_s.
    """
    try:
        # Not by fork: PortAudio and Qt do not support it.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_run_checks, args=(name, checks, settings, theirs), daemon=True)
        process.start()
    except OSError as error:
        return [failed(name, f"The check cannot run: Python does not start ({error}).", _REPORT_IT)]
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            return [failed(name, f"The check has not answered for {timeout_s:g} s.", if_it_hangs)]
        found: list[Check] = ours.recv()
        return found
    # OSError: in the middle of its answer.
    except (EOFError, OSError):
        process.join(_END_TIMEOUT_S)
        return [failed(name, f"The check ended its process ({_how(process.exitcode)}).", _REPORT_IT)]
    finally:
        ours.close()
        process.kill()
        # A driver that hangs can keep it longer; don't wait for that.
        process.join(_END_TIMEOUT_S)


def _run_checks(name: str, checks: Checks, settings: LiveSettings, answers: Connection) -> None:
    """Runs in the other process."""
    # Ctrl-C is for the parent. What ALSA, PortAudio and others print does not belong in the report.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Path(os.devnull).open("wb") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        found = checks(settings)
    except Exception as error:  # noqa: BLE001 - a bug in a check is a line, too
        found = [failed(name, f"The check itself failed: {type(error).__name__}: {error}", _REPORT_IT)]
    answers.send(found)
    answers.close()
    # Skip PortAudio's own exit, which may hang.
    os._exit(0)


def _how(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is not None and exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    return f"exit code {exit_code}"
