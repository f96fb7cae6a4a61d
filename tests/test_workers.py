"""Work in several processes: every item comes back, even if another one crashes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from realtime_mer.workers import WorkerCrashedError, default_jobs, run_in_workers

ROOT = Path(__file__).resolve().parents[1]


def odd_work(item: str) -> tuple[str, int]:
    """The item in capitals, and the process that did it."""
    if item == "crash":
        os.abort()
    if item == "raise":
        raise KeyError(item)
    if item.endswith(".pid"):
        Path(item).write_text(str(os.getpid()))
        time.sleep(600)
        Path(item).write_text("it was not ended")
    return item.upper(), os.getpid()


@pytest.mark.slow
def test_every_item_comes_back_with_its_result_or_error() -> None:
    items = ["a", "raise", "b", "crash", "c", "d"]
    outcomes = dict(run_in_workers(odd_work, items, jobs=2))
    assert sorted(outcomes) == sorted(items)
    assert {outcomes[item].result()[0] for item in "abcd"} == set("ABCD")
    assert isinstance(outcomes["raise"].error, KeyError)
    assert isinstance(outcomes["crash"].error, WorkerCrashedError)
    assert os.getpid() not in {outcomes[item].result()[1] for item in "abcd"}


def test_without_items() -> None:
    assert list(run_in_workers(odd_work, [], jobs=2)) == []
    assert default_jobs() >= 1


def test_leaving_early_ends_the_workers(tmp_path: Path) -> None:
    started = [tmp_path / "0.pid"]
    with contextlib.closing(run_in_workers(odd_work, [*map(str, started), "quick"], jobs=2)) as outcomes:
        assert next(outcomes)[0] == "quick"
        wait_for_all(started)
    assert_gone(started)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals a process group")
@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_workers_do_not_outlive_their_parent(how: str, tmp_path: Path) -> None:
    """Ctrl-C reaches all processes, and only the parent handles it."""
    started = [tmp_path / f"{i}.pid" for i in range(2)]
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from realtime_mer.workers import run_in_workers\n"
        "from test_workers import odd_work\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        list(run_in_workers(odd_work, sys.argv[1:], jobs=2))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script), *map(str, started)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for_all(started)
        if how == "SIGINT":
            os.killpg(parent.pid, signal.SIGINT)
        else:
            parent.kill()
        _, errors = parent.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    if how == "SIGINT":
        assert (parent.returncode, errors) == (130, "")
    assert_gone(started)


def wait_for_all(pid_files: list[Path]) -> None:
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in pid_files):
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.02)


def assert_gone(pid_files: list[Path]) -> None:
    deadline = time.monotonic() + 60
    for path in pid_files:
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(int(path.read_text()), 0)
                time.sleep(0.02)
            pytest.fail(f"worker {path.read_text()} still runs")
