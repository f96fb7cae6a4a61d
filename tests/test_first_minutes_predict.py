"""`predict` accounts for every file, and answers whatever it is given with a sentence, and never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music, small_checkpoint

import realtime_mer as mer
from realtime_mer.batch.folder import LeftOut, search
from realtime_mer.cli import main
from realtime_mer.models.checkpoint import save_checkpoint
from realtime_mer.sources import reading

ROOT = Path(__file__).resolve().parents[1]
NAME = "Aufführung “1”.wav"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path


def song(path: Path, rate_hz: int = 44_100, seconds: float = 1.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, music(seconds, rate_hz), rate_hz)
    return path


def predict(capsys: pytest.CaptureFixture[str], checkpoint: Path, *arguments: object) -> tuple[int, str, list[str]]:
    """The exit code, standard output, and the lines of standard error."""
    code = main(["predict", "--jobs", "1", "--checkpoint", str(checkpoint), *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err.splitlines()


def test_a_folder_accounts_for_every_file(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    song(Path("songs", "a.wav"))
    assert predict(capsys, checkpoint, "songs", "--output", out) == (0, "", ["realtime-mer: 1 predicted, 0 skipped."])
    # What is no audio is left out, and no failure.
    for name in ("cover.jpg", "notes.txt", ".hidden.wav"):
        Path("songs", name).write_bytes(b"no audio")
    Path("songs", "empty").mkdir()
    code, _, lines = predict(capsys, checkpoint, "songs", "--output", out)
    assert (code, lines) == (0, ["realtime-mer: 1 predicted, 0 skipped; left out: 2 not audio."])
    # Audio that is not predicted is one.
    Path("songs", "broken.wav").write_bytes(b"RIFF")
    Path("songs", "tune.MID").write_bytes(b"MThd")
    for number in range(4):
        song(Path("songs", "live", "2024", f"{number}.flac"))
    code, _, lines = predict(capsys, checkpoint, "songs", "--output", out)
    assert code == 1
    assert [line.partition(":")[0] for line in lines] == ["realtime-mer"] * 2
    assert lines[-1] == (
        "realtime-mer: 1 predicted, 1 skipped; left out: 1 of an unsupported kind (songs/tune.MID), "
        "4 in folders inside (songs/live/2024/0.flac, songs/live/2024/1.flac, songs/live/2024/2.flac, …), 2 not audio."
    )
    Path("songs", "broken.wav").unlink()
    assert predict(capsys, checkpoint, "songs", "--output", out)[0] == 1, "left out, though nothing was skipped"


def test_a_file_that_is_named_is_not_left_out(tmp_path: Path) -> None:
    song(tmp_path / "a.wav")
    inside = song(tmp_path / "live" / "b.wav")
    _, left_out = search(tmp_path)
    assert left_out == LeftOut(inside=(inside,))
    assert left_out.without({inside.resolve()}) == LeftOut()
    assert (left_out + left_out).without({}) == left_out, "each file once"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("-", "-: predict reads files, not standard input"),
        ("https://example.org/song.mp3", "https://example.org/song.mp3 is a web address. Download the file"),
        ("gone.wav", "gone.wav: there is no such file."),
        ("a\n\x1b[31mb\udcff.wav", r"a\n\x1b[31mb\udcff.wav: there is no such file."),
    ],
)
def test_what_is_no_file_gets_a_sentence(
    name: str, sentence: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, (line,) = predict(capsys, checkpoint, "--", name)
    assert (code, output) == (1, "")
    assert line.startswith("realtime-mer: skipped: ")
    assert sentence in line


def test_a_folder_with_control_characters_in_its_name(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "\x1b[31m").mkdir()
    code, _, (line,) = predict(capsys, checkpoint, tmp_path / "\x1b[31m", "--output", tmp_path)
    assert code == 2
    assert r"\x1b[31m has no audio file" in line


def test_a_pipe_without_a_writer_does_not_hang(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PIPE_TIMEOUT_S", 0.2)
    os.mkfifo(tmp_path / "pipe")
    code, output, (line,) = predict(capsys, checkpoint, tmp_path / "pipe")
    assert (code, output) == (1, "")
    assert "pipe: nothing was written into this pipe for 0.2 s." in line


def test_a_pipe_gives_the_same_predictions_as_its_file(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = song(tmp_path / "a.wav", seconds=3.0).read_bytes()
    expected = predict(capsys, checkpoint, tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    assert predict(capsys, checkpoint, tmp_path / "pipe") == expected
    writer.join(10)
    assert expected[0] == 0


def test_a_low_sample_rate_is_noted_once_per_file(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, full = song(tmp_path / "low.wav", 16_000), song(tmp_path / "full.wav", 32_000)
    code, table, (line,) = predict(capsys, checkpoint, low)
    assert code == 0
    assert table.startswith("time_s,")
    assert line == f"realtime-mer: {low}: At 16000 Hz the model gets nothing above 8 kHz; use 44100 Hz or more."
    assert predict(capsys, checkpoint, full)[2] == []


@pytest.mark.parametrize("gain_db", [12, 30, -30])
def test_a_file_of_floats_is_predicted_the_same_at_any_level(gain_db: int, deam_root: Path, tmp_path: Path) -> None:
    """Full scale is 0 dB: the gain stage comes before any clipping."""
    samples, rate_hz = soundfile.read(deam_root / "golden" / "829.wav", dtype="float32", always_2d=True)
    # From a loud moment on, so that at -30 dB the music does not begin in what is silence then.
    clip = samples[rate_hz // 2 : 4 * rate_hz]
    scaled = clip * np.float32(10 ** (gain_db / 20))
    soundfile.write(tmp_path / "scaled.wav", scaled, rate_hz, subtype="FLOAT")
    expected = mer.predict(clip, rate_hz=rate_hz)
    for found in (mer.predict(tmp_path / "scaled.wav"), mer.predict(scaled, rate_hz=rate_hz)):
        np.testing.assert_allclose(found.time_s, expected.time_s)
        np.testing.assert_allclose(found.valence, expected.valence, rtol=0, atol=0.01)
        np.testing.assert_allclose(found.arousal, expected.arousal, rtol=0, atol=0.01)


def run_in_ascii(*arguments: object) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "realtime_mer", *map(str, arguments)],
        env=environment,
        capture_output=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii")


@pytest.mark.slow
def test_no_command_ends_in_a_traceback_under_an_ascii_locale(tmp_path: Path, checkpoint: Path) -> None:
    song(tmp_path / NAME)
    (tmp_path / f"broken {NAME}").write_bytes(b"RIFF")
    code, _, errors = run_in_ascii("predict", tmp_path, "--output", tmp_path / "out", "--checkpoint", checkpoint)
    assert code == 1
    assert r"broken Auff\xfchrung \u201c1\u201d.wav" in errors
    code, table, _ = run_in_ascii("predict", tmp_path / NAME, "--format", "json", "--checkpoint", checkpoint)
    assert (code, table[0]) == (0, "{")
    live = ("--input", tmp_path / NAME, "--fast", "--no-plot", "--no-osc")
    for arguments in (("devices",), ("doctor", *live), live, ("Aufführung",)):
        code, output, errors = run_in_ascii(*arguments)
        assert code in (0, 1, 2)
        assert "Traceback" not in output + errors, errors
