"""`realtime-mer predict`: tables and plots for files, and its errors."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from checkpoints import music, small_checkpoint

from realtime_mer.batch.command import Job, csv_table, json_table, plan_jobs, run_predict
from realtime_mer.cli import main
from realtime_mer.config import ModelSettings
from realtime_mer.errors import OutputError, UsageError
from realtime_mer.live.session import predict_file
from realtime_mer.models.checkpoint import load_checkpoint, save_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.types import Prediction

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "realtime_mer", "predict"]
HEADER = "time_s,valence,arousal"
# Only against hanging.
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder with two seconds of sound as wav and as flac."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for name in ("tune.wav", "Other Tune.flac"):
        soundfile.write(folder / name, music(2.1, 44_100), 44_100)
    return folder


def started(*arguments: object, before: Path = ROOT, **streams: Any) -> subprocess.Popen[str]:
    """The real command. before: a folder of modules that it finds before all others."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{before}{os.pathsep}{ROOT}", "TERM": "xterm"},
        text=True,
        start_new_session=True,
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams),
    )


def run(*arguments: object, **options: Any) -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    with started(*arguments, **options) as process:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, output, errors


def in_process(*inputs: Path, checkpoint: Path, **changes: Any) -> int:
    """`run_predict` in this process, with the defaults of the command line."""
    arguments: dict[str, Any] = {"output": None, "table_format": "csv", "plot": False, "jobs": 1}
    return run_predict(inputs, model=ModelSettings(checkpoint=str(checkpoint)), **(arguments | changes))


def rows_of(table: str) -> list[dict[str, float]]:
    assert table.splitlines()[0] == HEADER
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(table))]


# --- audio formats and the model


def test_any_format_rate_and_channel_count(deam_root: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    mono, rate_hz = soundfile.read(deam_root / "golden" / "829.wav", dtype="float32", always_2d=True)
    # Without the silence at its start.
    mono = mono[round(0.1 * rate_hz) : round(3.3 * rate_hz)]
    stereo = np.repeat(mono, 2, axis=1)
    at_48_khz, at_22_khz = (soxr.resample(stereo, rate_hz, rate) for rate in (48_000, 22_050))
    clips = tmp_path / "clips"
    clips.mkdir()
    soundfile.write(clips / "mono.wav", mono, 44_100, subtype="PCM_16")
    soundfile.write(clips / "stereo.flac", stereo, 44_100, subtype="PCM_16")
    soundfile.write(clips / "rate48.wav", at_48_khz, 48_000, subtype="FLOAT")
    soundfile.write(clips / "vorbis.ogg", mono, 44_100, format="OGG", subtype="VORBIS")
    soundfile.write(clips / "opus.opus", at_48_khz, 48_000, format="OGG", subtype="OPUS")
    soundfile.write(clips / "rate22.mp3", at_22_khz, 22_050, format="MP3")
    (clips / "cover.png").write_bytes(b"\x89PNG")

    assert in_process(clips, checkpoint=checkpoint_path, output=tmp_path / "out") == 0
    tables = {path.stem: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert sorted(tables) == ["mono", "opus", "rate22", "rate48", "stereo", "vorbis"]
    exact = rows_of(tables["mono"])
    assert [row["time_s"] for row in exact] == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert tables["stereo"] == tables["mono"], "a mono mix of two equal channels, losslessly, is the same sound"
    for name in ("rate48", "rate22", "vorbis", "opus"):
        rows = rows_of(tables[name])
        assert [row["time_s"] for row in rows[:5]] == [row["time_s"] for row in exact]
        assert tables[name] != tables["mono"]
        assert all(-1.0 <= row[value] <= 1.0 for row in rows for value in ("valence", "arousal"))

    expected = predict_file(clips / "mono.wav", load_checkpoint(checkpoint_path))
    assert tables["mono"] == csv_table(expected), "the same as the live session"


@pytest.mark.slow
def test_the_default_model_separates_low_from_high_arousal(deam_root: Path) -> None:
    annotations = (
        deam_root / "annotations" / "annotations averaged per song" / "dynamic (per second annotations)" / "arousal.csv"
    )
    with annotations.open(newline="") as file:
        rated = {row["song_id"]: float(row["sample_35000ms"] or "nan") for row in csv.DictReader(file)}
    with (deam_root / "splits.csv").open(newline="") as file:
        in_test = [row["song_id"] for row in csv.DictReader(file) if row["split"] == "test"]
    ranked = sorted(
        (song for song in in_test if math.isfinite(rated.get(song, math.nan))), key=lambda song: rated[song]
    )
    checkpoint = load_checkpoint(default_checkpoint_path())

    def mean_arousal(songs: list[str]) -> float:
        clips = [predict_file(deam_root / "audio" / f"{song}.ogg", checkpoint) for song in songs]
        return float(np.mean([prediction.arousal for clip in clips for prediction in clip]))

    assert mean_arousal(ranked[:3]) < mean_arousal(ranked[-3:])


def test_the_default_checkpoint_is_the_package_s(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["predict", str(songs / "tune.wav")])
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, "")
    assert len(rows_of(printed.out)) == 3


# --- outputs


def test_one_file_to_standard_output_and_to_a_file(
    songs: Path, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(songs / "tune.wav", checkpoint=checkpoint_path) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [row["time_s"] for row in rows_of(printed.out)] == [1.0, 1.5, 2.0]
    output = tmp_path / "made" / "table.txt"
    assert in_process(songs / "tune.wav", checkpoint=checkpoint_path, output=output) == 0
    assert output.read_text() == printed.out
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_progress_bar_stays_out_of_the_table(songs: Path, checkpoint_path: Path) -> None:
    """`realtime-mer predict tune.wav > table.csv`, in a terminal."""
    import pty

    ours, terminal = pty.openpty()
    pieces: list[bytes] = []

    def take() -> None:
        # OSError: its other end is closed.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 100_000):
                pieces.append(piece)

    taking = threading.Thread(target=take)
    taking.start()
    code, output, _ = run(songs / "tune.wav", "--checkpoint", checkpoint_path, stderr=terminal)
    os.close(terminal)
    taking.join(TIMEOUT_S)
    os.close(ours)
    shown = b"".join(pieces).decode()
    assert code == 0
    assert len(rows_of(output)) == 3
    # There is a bar while the model is loaded.
    assert 0 <= shown.find("Loading the model") < shown.find("Predicting")
    assert HEADER not in shown


def test_json(songs: Path, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune = songs / "tune.wav"
    assert in_process(songs, checkpoint=checkpoint_path, output=tmp_path / "out", table_format="json") == 0
    text = (tmp_path / "out" / "tune.json").read_text()
    assert in_process(tune, checkpoint=checkpoint_path, table_format="json") == 0
    assert capsys.readouterr().out == text
    assert in_process(tune, checkpoint=checkpoint_path) == 0
    content = json.loads(text)
    assert content["file"] == str(tune)
    assert content["model"]["name"] == "seq2seq_a"
    assert content["predictions"] == rows_of(capsys.readouterr().out)


def test_a_folder_of_one_and_a_file_into_a_folder(songs: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    (songs / "tune.wav").unlink()
    assert in_process(songs, checkpoint=checkpoint_path, output=tmp_path / "a" / "b") == 0
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["Other Tune.csv"]
    assert in_process(songs / "Other Tune.flac", checkpoint=checkpoint_path, output=tmp_path / "a") == 0
    assert (tmp_path / "a" / "Other Tune.csv").is_file()


def test_plots(songs: Path, checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_process(songs, checkpoint=checkpoint_path, output=tmp_path / "out", plot=True) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "Other Tune.csv", "Other Tune.png", "tune.csv", "tune.png",
    ]  # fmt: skip
    assert (tmp_path / "out" / "tune.png").read_bytes().startswith(b"\x89PNG")
    assert in_process(songs / "tune.wav", checkpoint=checkpoint_path, output=tmp_path / "table.csv", plot=True) == 0
    assert (tmp_path / "table.png").is_file()
    monkeypatch.chdir(tmp_path)
    assert in_process(songs / "tune.wav", checkpoint=checkpoint_path, plot=True) == 0
    assert (tmp_path / "tune.png").is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs /dev/null")
def test_a_device_as_output_is_not_replaced(songs: Path, checkpoint_path: Path) -> None:
    assert in_process(songs / "tune.wav", checkpoint=checkpoint_path, output=Path(os.devnull)) == 0
    assert Path(os.devnull).is_char_device()


def test_the_tables_digits() -> None:
    predictions = [Prediction(1.0, -1e-9, 1.0), Prediction(7200.5, 0.1234565, -0.5)]
    assert csv_table(predictions) == (
        f"{HEADER}\n1.000,0.000000,1.000000\n7200.500,{round(0.1234565, 6):.6f},-0.500000\n"
    )
    assert "-0.0" not in json_table(predictions[:1], Path("a"), {})
    strange = Path("caf\udce9 \U0001d11e.mp3")
    assert json.loads(json_table(predictions, strange, {}).encode("ascii"))["file"] == str(strange)
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_table([Prediction(1.0, math.nan, 0.0)], Path("a"), {})


# --- bad files


CRASHING_DECODER = """\
import os, soundfile
class SoundFile(soundfile.SoundFile):
    def __init__(self, file, *rest, **options):
        if os.fstat(file).st_size == 13:
            os.abort()
        super().__init__(file, *rest, **options)
soundfile.SoundFile = SoundFile
"""


@pytest.mark.slow
def test_bad_files_are_named_and_the_rest_goes_on(songs: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    """One of them kills the process that reads it (with a stand-in for libsndfile), as a crafted file might."""
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "sitecustomize.py").write_text(CRASHING_DECODER)
    (songs / "crash.wav").write_bytes(bytes(13))
    (songs / "empty.mp3").write_bytes(b"")
    (songs / "broken [red] :smile:.ogg").write_bytes(b"OggS" + bytes(500))
    soundfile.write(songs / "short.wav", music(0.9), 44_100)
    outputs = ("--output", tmp_path / "out", "--checkpoint", checkpoint_path, "--jobs", 2)
    code, output, errors = run(songs, tmp_path / "gone.wav", *outputs, before=tmp_path / "decoder")
    assert (code, output) == (1, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Other Tune.csv", "tune.csv"]
    lines = [line for line in errors.splitlines() if line.startswith("realtime-mer: ")]
    for name, reason in {
        "crash.wav": "its process died",
        "empty.mp3": "cannot be read as audio",
        "broken [red] :smile:.ogg": "cannot be read as audio",
        "short.wav": "too short",
        "gone.wav": "there is no such file",
    }.items():
        assert any(name in line and reason in line for line in lines), errors
    assert lines[-1] == "realtime-mer: 2 predicted, 5 skipped."
    assert len(lines) == 6


def test_one_bad_file_alone(checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw.raw").write_bytes(bytes(1000))
    assert in_process(tmp_path / "raw.raw", checkpoint=checkpoint_path, output=tmp_path / "table.csv") == 1
    assert str(tmp_path / "raw.raw") in capsys.readouterr().err
    assert not (tmp_path / "table.csv").exists()


# --- bad arguments and outputs


def touched(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def test_the_plan(tmp_path: Path) -> None:
    a, b = touched(tmp_path / "in", "a.b.wav", "b.MP3")
    touched(tmp_path / "in", "._a.b.wav", "notes.txt", "sub/c.wav", "x.raw")
    (tmp_path / "in" / "folder.wav").mkdir()
    out = tmp_path / "out"
    expected = [Job(a, out / "a.b.csv", None), Job(b, out / "b.csv", None)]
    assert plan_jobs([tmp_path / "in"], out, "csv", plot=False)[0] == expected
    assert plan_jobs([a, tmp_path / "in", a], out, "csv", plot=False)[0] == expected, "each file once"
    assert plan_jobs([a], None, "csv", plot=True)[0] == [Job(a, None, Path("a.b.png"))]
    assert plan_jobs([a], out, "json", plot=True)[0] == [Job(a, out, tmp_path / "out.png")]
    out.mkdir()
    assert plan_jobs([a], out, "json", plot=True)[0] == [Job(a, out / "a.b.json", out / "a.b.png")]


@pytest.mark.parametrize(
    ("inputs", "output", "plot", "reason"),
    [
        (["a.wav", "b.wav"], None, False, "Several files or a folder need --output DIR"),
        (["sub"], None, False, "Several files or a folder need --output DIR"),
        (["a.wav", "b.wav"], "a.wav", False, "need a folder for --output, but .*a.wav is a file"),
        (["a.wav", "a.mp3"], "out", False, "a.wav and .*a.mp3 would both give .*a.csv"),
        (["a.wav", "sub"], "out", False, "a.wav and .*A.ogg would both give"),
        (["a.wav"], "a.wav", False, "a.wav is one of the files to predict"),
        (["a.wav"], "a.png", True, "The table and the plot would both be"),
        (["none"], "out", False, "none has no audio file"),
    ],
)
def test_plans_that_are_refused(inputs: list[str], output: str | None, plot: bool, reason: str, tmp_path: Path) -> None:
    touched(tmp_path, "a.wav", "a.mp3", "b.wav", "sub/A.ogg", "none/notes.txt")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=reason):
        plan_jobs([tmp_path / name for name in inputs], tmp_path / output if output else None, "csv", plot=plot)
    assert sorted(tmp_path.rglob("*")) == before


def test_plotting_without_matplotlib(songs: Path, checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib, which is not installed"):
        in_process(songs / "tune.wav", checkpoint=checkpoint_path, plot=True)


def test_misuse_ends_with_code_2_before_any_work(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(songs / "tune.ogg", music(1.2), 44_100)
    assert main(["predict", str(songs), "--output", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("realtime-mer: error: ")
    assert "tune.ogg and" in printed.err
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_written(songs: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(OutputError, match=r"file.sub.* cannot be written: Not a directory"):
        in_process(songs, checkpoint=checkpoint_path, output=blocked / "sub")
    (tmp_path / "out" / "tune.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"tune\.csv cannot be written: it is a folder"):
        in_process(songs, checkpoint=checkpoint_path, output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tune.csv"]


def test_a_disk_that_is_full_by_the_time_of_writing(
    songs: Path, checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"\.csv cannot be written: No space left on device"):
        in_process(songs, checkpoint=checkpoint_path, output=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# --- ends early


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals a process group")
@pytest.mark.parametrize("several", [True, False])
def test_ctrl_c(several: bool, songs: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    endless = songs / "endless.wav"
    soundfile.write(endless, music(600.0, 8000), 8000)
    out = tmp_path / "out"
    inputs = [songs / "tune.wav", songs / "Other Tune.flac", endless] if several else [endless]
    running = started(*inputs, "--output", out if several else tmp_path / "table", "--checkpoint", checkpoint_path)
    deadline = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < deadline and not under_way(running.pid, endless, out, several):
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    output, errors = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, output, errors) == (130, "", "realtime-mer: interrupted\n")
    if several:
        assert sorted(path.name for path in out.iterdir()) == ["Other Tune.csv", "tune.csv"]
        assert len(rows_of((out / "tune.csv").read_text())) == 3
    assert not (tmp_path / "table").exists()
    assert_group_gone(running.pid)


def under_way(process: int, endless: Path, out: Path, several: bool) -> bool:
    """Whether the quick files are done; for a single file, whether it is open (or, without /proc, after some time)."""
    if several:
        return out.is_dir() and len(list(out.glob("*.csv"))) == 2
    descriptors = Path(f"/proc/{process}/fd")
    if not descriptors.exists():
        time.sleep(10)
        return True
    return any(link.exists() and link.samefile(endless) for link in descriptors.iterdir())


def assert_group_gone(group: int) -> None:
    """The workers and multiprocessing's own helper have ended."""
    deadline = time.monotonic() + TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.02)
        pytest.fail(f"processes of the group {group} still run")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently there")
def test_a_reader_that_has_closed_the_pipe(songs: Path, checkpoint_path: Path) -> None:
    with started(songs / "tune.wav", "--checkpoint", checkpoint_path) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == ""
        assert running.wait(TIMEOUT_S) == 141


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_on_a_full_disk(songs: Path, checkpoint_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        code, _, errors = run(songs / "tune.wav", "--checkpoint", checkpoint_path, stdout=full)
    assert code == 1
    assert errors == "realtime-mer: error: Standard output cannot be written: No space left on device.\n"
