"""How many seconds of music `realtime-mer predict` predicts in a second: both models, with one process and with two."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT, BenchmarkError, at_least, options, page, progress, report, table
from realtime_mer.batch.folder import search
from realtime_mer.errors import UsageError

DEFAULT_ROUNDS = 3
# Files of about half a minute each: the start of the command is then a small part.
_MOST_FILES = 8
_MODELS = ("default", "open")
_JOBS = (1, 2)


def measure(music: Path, rounds: int = DEFAULT_ROUNDS) -> str:
    """Measures, and returns the section of the report."""
    try:
        files = search(music)[0][:_MOST_FILES]
    except UsageError as error:
        raise BenchmarkError(str(error)) from error
    speeds: dict[tuple[str, int], list[float]] = {(model, jobs): [] for jobs in _JOBS for model in _MODELS}
    music_s = 0.0
    # In turns, so that what else the machine does falls on all of them.
    for number in range(1, rounds + 1):
        progress(f"predict: round {number} of {rounds}, {len(files)} files with each model, one process and two")
        for (model, jobs), found in speeds.items():
            music_s, taken_s = _predict(files, model, jobs)
            found.append(music_s / taken_s)
    rows = []
    for jobs in _JOBS:
        by_model = [statistics.median(speeds[model, jobs]) for model in _MODELS]
        ratio = statistics.median(
            other / one for one, other in zip(*(speeds[model, jobs] for model in _MODELS), strict=True)
        )
        rows.append((str(jobs), *(f"{speed:.0f}" for speed in by_model), f"{ratio:.1f}"))
    return page(
        "## Files",
        f"""`realtime-mer predict --jobs N` of {len(files)} files, {music_s:.0f} s of music, with the default model
        (openSMILE and the descriptors) and with the open one: seconds of music per second from the command's start to
        its end, the median of {rounds} runs each, in turns, and the median of the ratios.""",
        table(("processes", "default model", "open model", "ratio"), rows),
    )


def _predict(files: Sequence[Path], model: str, jobs: int) -> tuple[float, float]:
    """How many seconds of music there were, and how long it took."""
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        checkpoint = ROOT / "realtime_mer" / "models" / f"{model}.safetensors"
        arguments = ["--checkpoint", str(checkpoint), "--jobs", str(jobs), "--output", folder]
        command = [sys.executable, "-m", "realtime_mer", "predict", *map(str, files), *arguments]
        started_s = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        taken_s = time.monotonic() - started_s
        if done.returncode != 0:
            raise BenchmarkError(f"predict ended with {done.returncode}.\n{done.stderr}".strip())
        last_rows = [path.read_text(encoding="ascii").splitlines()[-1] for path in Path(folder).glob("*.csv")]
    return math.fsum(float(row.partition(",")[0]) for row in last_rows), taken_s


def main() -> int:
    """`python -m benchmarks.predict_speed`."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=at_least(1), default=DEFAULT_ROUNDS, help="how often each is measured")
    given = parser.parse_args()
    return report(lambda: measure(given.music, int(given.rounds)))


if __name__ == "__main__":
    sys.exit(main())
