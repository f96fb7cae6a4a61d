"""What all tests share: where the real music is, when it is there, and how they run on a busy machine."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings


def _pytest_qt() -> list[str]:
    """pytest-qt, where Qt can be loaded: it would end the whole run where that lacks a library of the system."""
    try:
        importlib.import_module("PyQt5.QtWidgets")
    except ImportError:
        return []
    os.environ["PYTEST_QT_API"] = "pyqt5"
    return ["pytestqt.plugin"]


pytest_plugins = _pytest_qt()

DEAM_ROOT = Path(__file__).resolve().parents[2] / "shared" / "deam"

# The same examples in every run, however long each takes: how long says more about the machine than about the code.
settings.register_profile("make", deadline=None, derandomize=True, database=None)
# Other examples in every run, and many more: HYPOTHESIS_PROFILE=long. What it finds becomes an @example.
settings.register_profile("long", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "make"))


def pytest_sessionstart() -> None:
    """Matrices as small as ours gain nothing from threads, which wait for one another where the machine is busy. And
    where SIGINT is ignored, as in a shell's background, the programs that the tests start would not end by it."""
    torch.set_num_threads(1)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def deam_root() -> Path:
    """The folder of DEAM excerpts beside the repository; the test is skipped where there is none."""
    if not (DEAM_ROOT / "clips.csv").is_file():
        pytest.skip("no DEAM excerpts in ../shared/deam: this test needs real music")
    return DEAM_ROOT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a megabyte."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a small disk")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
