"""Live runs without a sound card, as a user starts them: files, standard input, the built-in piece, recordings."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music, small_checkpoint
from live_runs import LiveRun, oscdump, without_display
from osc_sockets import free_port

from realtime_mer.models.checkpoint import save_checkpoint

pytestmark = pytest.mark.slow
ENVIRONMENT = without_display(os.environ)
SONG_S = 4.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song, a model, and the recording of a fast run of the model over the song."""
    folder = tmp_path_factory.mktemp("live")
    soundfile.write(folder / "song.wav", music(SONG_S, n_channels=2), 44_100, subtype="PCM_16")
    save_checkpoint(folder / "model.safetensors", small_checkpoint())
    run("--input", str(folder / "song.wav"), "--fast", "--record", str(folder / "recording"), folder=folder)
    return folder


def run(
    *arguments: str, folder: Path, code: int = 0, stdin: bytes | None = None, model: str = "model.safetensors"
) -> tuple[str, str]:
    """Standard output and standard error of a run without a window and with the small model."""
    done = subprocess.run(
        LiveRun.command(*arguments, "--no-plot", "--checkpoint", str(folder / model)),
        env=ENVIRONMENT,
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    output, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, errors
    assert "Traceback" not in errors
    return output, errors


def predicted(folder: Path) -> list[tuple[float, float, float]]:
    """What `predict` says of the song."""
    arguments = LiveRun.command("predict", str(folder / "song.wav"), "--checkpoint", str(folder / "model.safetensors"))
    table = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True).stdout
    return [(float(r["time_s"]), float(r["valence"]), float(r["arousal"])) for r in csv.DictReader(io.StringIO(table))]


def recorded(directory: Path) -> list[tuple[float, float, float]]:
    with (directory / "predictions.csv").open(encoding="utf-8") as file:
        return [(float(r["time_s"]), float(r["valence"]), float(r["arousal"])) for r in csv.DictReader(file)]


def as_printed(values: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [(round(time_s, 3), round(valence, 6), round(arousal, 6)) for time_s, valence, arousal in values]


def test_a_file_as_fast_as_possible_is_what_predict_says(folder: Path) -> None:
    values = recorded(folder / "recording")
    assert len(values) == 6
    assert as_printed(values) == predicted(folder)


def test_a_file_in_real_time_sends_the_same_over_osc(folder: Path) -> None:
    port = free_port()
    with oscdump(port) as received:
        run("--input", str(folder / "song.wav"), "--osc", f"127.0.0.1:{port}", folder=folder)
        received.wait_for(lambda heard: "ended" in heard.texts("/mer/status/source"), "the end")
    expected = predicted(folder)
    assert received.numbers("/mer/time") == [time_s for time_s, _, _ in expected]
    pairs = [[float(value) for value in pair] for pair in received.messages["/mer/va"]]
    # oscdump prints six digits.
    assert np.allclose(pairs, [pair for _, *pair in expected], atol=2e-6)


def test_standard_input_from_ffmpeg(folder: Path, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine: this test needs another program that writes PCM")
    command = ["ffmpeg", "-v", "error", "-i", str(folder / "song.wav"), "-f", "s16le", "-ac", "2", "-ar", "44100", "-"]
    pcm = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    run("--input", "-", "--no-osc", "--record", str(tmp_path / "piped"), folder=folder, stdin=pcm)
    assert recorded(tmp_path / "piped") == recorded(folder / "recording")


def test_a_replay_is_identical_to_the_last_bit_and_says_so(folder: Path) -> None:
    _, errors = run("replay", str(folder / "recording"), "--fast", "--no-osc", folder=folder)
    assert "identical" in errors


def test_a_replay_that_differs_fails_and_says_where(folder: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(folder / "recording", tmp_path / "changed")
    lines = (changed / "predictions.csv").read_text(encoding="utf-8").splitlines()
    cells = lines[3].split(",")
    cells[2] = repr(float(cells[2]) + 1e-7)
    lines[3] = ",".join(cells)
    (changed / "predictions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _, errors = run("replay", str(changed), "--fast", "--no-osc", folder=folder, code=1)
    assert cells[2] in errors


def test_a_replay_with_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other.safetensors", small_checkpoint("mlp"))
    _, errors = run(
        "replay", str(folder / "recording"), "--fast", folder=folder, code=1, model=str(tmp_path / "other.safetensors")
    )
    assert "made with another model" in errors


def test_a_recording_is_never_written_over(folder: Path) -> None:
    before = recorded(folder / "recording")
    arguments = ["--input", str(folder / "song.wav"), "--fast", "--record", str(folder / "recording")]
    _, errors = run(*arguments, folder=folder, code=1)
    assert str(folder / "recording") in errors
    assert recorded(folder / "recording") == before


def test_a_recording_keeps_the_level_settings_that_it_was_made_with(folder: Path, tmp_path: Path) -> None:
    sound = np.concatenate([music(2.0), np.full((66_150, 1), 0.002, np.float32) * np.sign(music(1.5)), music(2.0)])
    soundfile.write(tmp_path / "soft.wav", sound, 44_100, subtype="PCM_24")
    loud_only = ["--silence-db", "-46", "--no-osc"]
    made = ["--input", str(tmp_path / "soft.wav"), "--fast", "--record", str(tmp_path / "soft")]
    output, _ = run(*made, *loud_only, folder=folder)
    assert "silence" in output
    _, errors = run("replay", str(tmp_path / "soft"), "--fast", "--no-osc", folder=folder)
    assert "identical" in errors


def test_the_built_in_piece_can_be_ended(folder: Path) -> None:
    arguments = ["demo", "--no-plot", "--no-osc", "--no-sound", "--checkpoint", str(folder / "model.safetensors")]
    with LiveRun(*arguments, environment=ENVIRONMENT) as demo:
        assert demo.process.stdout is not None
        assert "valence" in "".join(demo.process.stdout.readline() for _ in range(3))
        code, _, errors = demo.end()
    assert code == 0, errors


def test_lines_that_cannot_be_written_do_not_end_the_run(folder: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this machine: this test needs an output that is always full")
    arguments = ["--input", str(folder / "song.wav"), "--no-plot", "--no-osc", "--record", str(tmp_path / "kept")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            LiveRun.command(*arguments, "--checkpoint", str(folder / "model.safetensors")),
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert "no more lines: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert recorded(tmp_path / "kept") == recorded(folder / "recording")


def test_a_low_sample_rate_is_warned_of_once(folder: Path) -> None:
    pcm = (music(3.0, 8_000) * 30_000).astype("<i2").tobytes()
    arguments = ["--input", "-", "--pcm-rate", "8000", "--pcm-channels", "1", "--no-osc", "--no-terminal"]
    _, errors = run(*arguments, folder=folder, stdin=pcm)
    assert errors.count("At 8000 Hz the model gets nothing above 4 kHz") == 1


def test_words_that_nobody_can_read_do_not_end_the_run(folder: Path, tmp_path: Path) -> None:
    """Standard error is a pipe that is closed, as that of a terminal that is gone."""
    soundfile.write(tmp_path / "low.wav", music(3.0, 8_000), 8_000)
    arguments = ["--input", str(tmp_path / "low.wav"), "--fast", "--no-osc", "--record", str(tmp_path / "low")]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            # With a window wanted, which there cannot be.
            LiveRun.command(*arguments, "--checkpoint", str(folder / "model.safetensors")),
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=writing,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == 0
    assert len(recorded(tmp_path / "low")) == 4


def test_lines_into_a_pipe_that_is_closed_end_the_run(folder: Path) -> None:
    arguments = ["demo", "--no-plot", "--no-osc", "--no-sound", "--checkpoint", str(folder / "model.safetensors")]
    with LiveRun(*arguments, environment=ENVIRONMENT) as demo:
        assert demo.process.stdout is not None
        demo.process.stdout.readline()
        demo.process.stdout.close()
        assert demo.process.wait(timeout=60) == 141


def test_a_model_that_gives_no_number_ends_the_run_with_its_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    _, errors = run(
        "--input",
        str(folder / "song.wav"),
        "--no-osc",
        folder=folder,
        code=1,
        model=str(tmp_path / "broken.safetensors"),
    )
    assert "The checkpoint" in errors
