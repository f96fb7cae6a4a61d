"""Fixtures shared by the tests: where the real music is, when it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

DEAM_ROOT = Path(__file__).resolve().parents[2] / "shared" / "deam"


@pytest.fixture(scope="session")
def deam_root() -> Path:
    """The folder of DEAM excerpts beside the repository; the test is skipped where there is none."""
    if not (DEAM_ROOT / "clips.csv").is_file():
        pytest.skip("no DEAM excerpts in ../shared/deam: this test needs real music")
    return DEAM_ROOT
