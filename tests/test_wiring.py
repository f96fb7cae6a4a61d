"""Live runs without a sound card: files, standard input, the built-in piece, recordings and their replays."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music, small_checkpoint
from live_runs import LiveRun, oscdump, without_display
from osc_sockets import free_port

from realtime_mer import wiring
from realtime_mer.cli import main
from realtime_mer.models.checkpoint import save_checkpoint

pytestmark = pytest.mark.slow
ENVIRONMENT = without_display(os.environ)
Run = Callable[..., tuple[str, str]]
Values = list[tuple[float, float, float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song, a model, and the recording of a fast run of the model over the song."""
    folder = tmp_path_factory.mktemp("live")
    soundfile.write(folder / "song.wav", music(4.0, n_channels=2), 44_100, subtype="PCM_16")
    save_checkpoint(folder / "model.safetensors", small_checkpoint())
    arguments = ["--input", folder / "song.wav", "--fast", "--record", folder / "recording", "--no-osc", "--no-plot"]
    assert main([*map(str, arguments), "--checkpoint", str(folder / "model.safetensors")]) == 0
    return folder


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process, with the small model and without window, OSC and raised priority."""
    monkeypatch.setattr(wiring, "raise_priority", lambda: None)

    def run(*arguments: str | Path, code: int = 0, model: Path = folder / "model.safetensors") -> tuple[str, str]:
        capsys.readouterr()
        assert main([*map(str, arguments), "--no-plot", "--no-osc", "--checkpoint", str(model)]) == code
        return capsys.readouterr()

    return run


def process(folder: Path, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """A run with the small model as a process of its own, for what concerns its standard streams."""
    given = (*map(str, arguments), "--no-osc", "--checkpoint", str(folder / "model.safetensors"))
    return subprocess.run(LiveRun.command(*given), env=ENVIRONMENT, timeout=120, check=False, **options)  # type: ignore[call-overload, no-any-return]


def values_in(table: str) -> Values:
    return [(float(r["time_s"]), float(r["valence"]), float(r["arousal"])) for r in csv.DictReader(io.StringIO(table))]


def recorded(directory: Path) -> Values:
    return values_in((directory / "predictions.csv").read_text(encoding="utf-8"))


@pytest.fixture
def predicted(folder: Path, capsys: pytest.CaptureFixture[str]) -> Values:
    """The table of `predict` for the song."""
    capsys.readouterr()
    assert main(["predict", str(folder / "song.wav"), "--checkpoint", str(folder / "model.safetensors")]) == 0
    return values_in(capsys.readouterr().out)


def test_a_fast_file_gives_the_values_of_predict(folder: Path, predicted: Values) -> None:
    values = recorded(folder / "recording")
    assert len(values) == 6
    printed = [(round(time_s, 3), round(valence, 6), round(arousal, 6)) for time_s, valence, arousal in values]
    assert printed == predicted


def test_a_file_in_real_time_sends_the_same_over_osc(folder: Path, predicted: Values) -> None:
    port = free_port()
    arguments = ("--input", "song.wav", "--checkpoint", "model.safetensors", "--no-plot", "--osc", f"127.0.0.1:{port}")
    with oscdump(port) as received, LiveRun(*arguments, environment=ENVIRONMENT, folder=folder) as live:
        received.wait_for(lambda got: "ended" in got.texts("/mer/status/source"), "the end")
        code, _, errors = live.wait()
    assert code == 0, errors
    assert received.numbers("/mer/time") == [time_s for time_s, _, _ in predicted]
    pairs = [[float(value) for value in pair] for pair in received.messages["/mer/va"]]
    # oscdump prints six digits.
    assert np.allclose(pairs, [pair for _, *pair in predicted], atol=2e-6)


def test_a_low_sample_rate_is_warned_of_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pcm").write_bytes((music(3.0, 8_000) * 30_000).astype("<i2").tobytes())
    with (tmp_path / "pcm").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        _, errors = run("--input", "-", "--pcm-rate", "8000", "--pcm-channels", "1", "--no-terminal")
    assert errors.count("At 8000 Hz the model gets nothing above 4 kHz") == 1


def test_a_replay_compares_every_bit(folder: Path, run: Run, tmp_path: Path) -> None:
    assert "identical" in run("replay", folder / "recording", "--fast")[1]
    changed = shutil.copytree(folder / "recording", tmp_path / "changed") / "predictions.csv"
    rows = [line.split(",") for line in changed.read_text(encoding="utf-8").splitlines()]
    rows[3][2] = repr(float(rows[3][2]) + 1e-7)
    changed.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    assert rows[3][2] in run("replay", tmp_path / "changed", "--fast", code=1)[1]


def test_a_replay_with_another_model_is_refused(folder: Path, run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, small_checkpoint("mlp"))
    assert "made with another model" in run("replay", folder / "recording", "--fast", code=1, model=other)[1]


def test_a_recording_keeps_its_level_settings(run: Run, tmp_path: Path) -> None:
    sound = np.concatenate([music(2.0), np.full((66_150, 1), 0.002, np.float32) * np.sign(music(1.5)), music(2.0)])
    soundfile.write(tmp_path / "soft.wav", sound, 44_100, subtype="PCM_24")
    made = ["--input", tmp_path / "soft.wav", "--fast", "--record", tmp_path / "soft", "--silence-db", "-46"]
    assert "silence" in run(*made)[0]
    assert "identical" in run("replay", tmp_path / "soft", "--fast")[1]


def test_a_full_disk_behind_standard_output_does_not_end_the_run(folder: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this machine: this test needs an output that is always full")
    arguments = ("--input", folder / "song.wav", "--fast", "--no-plot", "--record", tmp_path / "kept")
    with Path("/dev/full").open("w") as full:
        done = process(folder, *arguments, stdout=full, stderr=subprocess.PIPE, text=True)
    assert "no more lines: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert recorded(tmp_path / "kept") == recorded(folder / "recording")


def test_a_closed_standard_error_does_not_end_the_run(folder: Path, tmp_path: Path) -> None:
    """The run warns of the low rate, and of the window that cannot be shown."""
    soundfile.write(tmp_path / "low.wav", music(3.0, 8_000), 8_000)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        arguments = ("--input", tmp_path / "low.wav", "--fast", "--record", tmp_path / "low")
        done = process(folder, *arguments, stdout=subprocess.PIPE, stderr=closed)
    assert done.returncode == 0
    assert len(recorded(tmp_path / "low")) == 4


def test_a_closed_standard_output_ends_the_run(folder: Path) -> None:
    arguments = ("demo", "--no-plot", "--no-osc", "--no-sound", "--checkpoint", "model.safetensors")
    with LiveRun(*arguments, environment=ENVIRONMENT, folder=folder) as demo:
        assert demo.process.stdout is not None
        assert "valence" in "".join(demo.process.stdout.readline() for _ in range(3))
        demo.process.stdout.close()
        assert demo.process.wait(timeout=60) == 141
