"""The open model where openSMILE is not installed: demo, recording, replay, predict and doctor work."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music
from live_runs import without_display

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = without_display(os.environ)
# Only against hanging.
TIMEOUT_S = 120.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with all packages that are installed here but opensmile."""
    folder = tmp_path_factory.mktemp("without") / "venv"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("[Ll]ib/**/site-packages")
    for place in map(Path, sys.path):
        if place.name == "site-packages":
            for entry in place.iterdir():
                left_out = entry.name.startswith(("opensmile", "realtime_mer")) or entry.suffix == ".pth"
                if not left_out and not (packages / entry.name).exists():
                    (packages / entry.name).symlink_to(entry)
    (packages / "realtime_mer.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    found = next(path for path in folder.glob("*/python*") if path.is_file())
    run = subprocess.run([found, "-c", "import opensmile"], capture_output=True, text=True, check=False)
    assert "No module named 'opensmile'" in run.stderr
    return found


def realtime_mer(python: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Standard output and standard error."""
    run = subprocess.run(
        [python, "-m", "realtime_mer", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == code, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return run.stdout, run.stderr


def times_of(table: Path) -> list[float]:
    with table.open(encoding="utf-8") as file:
        return [float(row["time_s"]) for row in csv.DictReader(file)]


def test_the_demo_is_recorded_ten_times_a_second_and_replayed_to_the_bit(python: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    arguments = ["demo", "--model", "open", "--no-plot", "--no-osc", "--no-sound", "--record", str(recorded)]
    with subprocess.Popen(
        [python, "-m", "realtime_mer", *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        lines = [demo.stdout.readline() for _ in range(15)]
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0
    assert "valence" in "".join(lines)
    times_s = times_of(recorded / "predictions.csv")
    np.testing.assert_allclose(np.diff(times_s), 0.1, atol=1e-9)
    # Without a word about the model: the recording has its name and its rate.
    _, errors = realtime_mer(python, "replay", str(recorded), "--fast", "--no-plot", "--no-osc")
    assert f"All {len(times_s)} predictions that were compared are identical" in errors


def test_predict_and_doctor_need_no_opensmile_and_the_default_model_offers_the_open_one(
    python: Path, tmp_path: Path
) -> None:
    song, table = tmp_path / "song.wav", tmp_path / "song.csv"
    soundfile.write(song, music(3.0), 44_100, subtype="PCM_16")
    realtime_mer(python, "predict", str(song), "--model", "open", "--rate", "4", "--output", str(table))
    assert times_of(table) == [1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0]
    _, errors = realtime_mer(python, "predict", str(song), code=1)
    assert "The Python package opensmile is missing." in errors
    assert "--model open" in errors
    settings = ["--input", str(song), "--model", "open", "--no-plot", "--no-osc", "--json"]
    # Its exit code depends on how busy the machine is.
    doctor = subprocess.run(
        [python, "-m", "realtime_mer", "doctor", *settings],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    assert [checks[name]["verdict"] for name in ("libraries", "openSMILE", "model")] == ["ok", "skipped", "ok"]
    assert "predictions" in checks["headroom"]["text"]
