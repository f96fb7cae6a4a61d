"""Checks that go wrong, for the tests of doctor.guard, which runs them in another process."""

from __future__ import annotations

import os
import signal
import threading

from realtime_mer.config import LiveSettings
from realtime_mer.doctor import Check, ok


def works(settings: LiveSettings) -> list[Check]:
    os.write(1, b"output of a driver\n")
    os.write(2, b"error of a driver\n")
    return [ok("device", settings.audio.device), ok("process", str(os.getpid()))]


def raises(_settings: LiveSettings) -> list[Check]:
    raise LookupError("nothing there")


def hangs(_settings: LiveSettings) -> list[Check]:
    threading.Event().wait()
    return []


def dies(_settings: LiveSettings) -> list[Check]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def exits(_settings: LiveSettings) -> list[Check]:
    os._exit(3)
