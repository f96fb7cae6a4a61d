"""The priority of the program beside others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from realtime_mer import wiring
from realtime_mer.config import InputSettings, LiveSettings
from realtime_mer.priorities import NICENESS, raise_priority

ROOT = Path(__file__).resolve().parents[1]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@linux_only
def test_the_process_and_its_threads_get_a_higher_priority_if_allowed() -> None:
    code = (
        "import os, subprocess, sys, threading\n"
        "from realtime_mer.priorities import raise_priority\n"
        "found = [raise_priority(), os.getpriority(os.PRIO_PROCESS, 0)]\n"
        "thread = threading.Thread(target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, 0)))\n"
        "thread.start(); thread.join()\n"
        "print(*found)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    allowed = run.stdout.split()[0] == "True"
    expected = min(NICENESS, before) if allowed else before
    assert run.stdout.split()[1:] == [str(expected)] * 2
    # root is always allowed.
    assert allowed or os.geteuid() != 0 or before <= NICENESS


@linux_only
def test_a_refusal_of_the_system_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not you")

    monkeypatch.setattr(os, "getpriority", lambda *_: 0)
    monkeypatch.setattr(os, "setpriority", refuse)
    assert not raise_priority()


@linux_only
def test_a_higher_priority_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(os, "getpriority", lambda *_: NICENESS - 5)
    monkeypatch.setattr(os, "setpriority", lambda *arguments: given.append(arguments[-1]))
    assert raise_priority()
    assert given == []


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not raise_priority()


@pytest.mark.parametrize("fast", [False, True])
def test_only_runs_in_real_time_get_a_higher_priority(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(wiring, "raise_priority", lambda: done.append("raised"))
    monkeypatch.setattr(wiring, "_run", lambda *_: done.append("run"))
    wiring.listen(LiveSettings(input=InputSettings("song.flac", fast=fast)))
    assert done == (["run"] if fast else ["raised", "run"])
