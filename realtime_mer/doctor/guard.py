"""Runs a check in a process of its own, so that one that breaks, hangs or ends its process is a line of the report."""

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
    """What the checks say; one failed check of this name where they give no answer, with why not. Never raises.

    checks: a function at the top of a module. timeout_s: for how long it may take. if_it_hangs: the cure then.
    """
    try:
        # Not by fork: PortAudio, Qt and torch are not made for that.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_carry_out, args=(name, checks, settings, theirs), daemon=True)
        process.start()
    except OSError as error:
        return [failed(name, f"It cannot be looked at: Python does not start ({error}).", _REPORT_IT)]
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            return [failed(name, f"It has not answered for {timeout_s:g} s.", if_it_hangs)]
        found: list[Check] = ours.recv()
        return found
    # OSError: in the middle of its answer.
    except (EOFError, OSError):
        process.join(_END_TIMEOUT_S)
        return [failed(name, f"It ended the process that looked at it ({_how(process.exitcode)}).", _REPORT_IT)]
    finally:
        ours.close()
        process.kill()
        # Only a driver that hangs keeps it longer; it is left to the system then.
        process.join(_END_TIMEOUT_S)


def _carry_out(name: str, checks: Checks, settings: LiveSettings, answers: Connection) -> None:
    """In the other process."""
    # Ctrl-C is for the process that started this one. ALSA, PortAudio and others say much that is no line of a report.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Path(os.devnull).open("wb") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        found = checks(settings)
    except Exception as error:  # noqa: BLE001 - a check that breaks is a line, too
        found = [failed(name, f"The check itself broke: {type(error).__name__}: {error}", _REPORT_IT)]
    answers.send(found)
    answers.close()
    # Not by way of PortAudio's own good-bye, which may hang.
    os._exit(0)


def _how(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is not None and exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    return f"exit code {exit_code}"
