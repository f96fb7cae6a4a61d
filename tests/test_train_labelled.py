"""A folder of labelled music of one's own: what labels.csv means, what is wrong with it, and a model trained on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from realtime_mer.models.checkpoint import load_checkpoint
from train.__main__ import main
from train.deam import DeamError
from train.labelled import load_labelled

HEADER = "file,start_s,valence,arousal\n"


def labelled(folder: Path, *rows: str, header: str = HEADER) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text(header + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return folder


def tone(path: Path, duration_s: float, frequency_hz: float = 440.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(round(duration_s * 44_100)) / 44_100
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency_hz * time_s), 44_100)


def test_a_label_holds_until_the_next_one_or_the_end(tmp_path: Path) -> None:
    tone(tmp_path / "sub" / "ä, b.wav", 3.0)
    tone(tmp_path / "c.wav", 1.0)
    folder = labelled(tmp_path, '"sub/ä, b.wav",1.2,-1,0.25', "c.wav,0,0.5,0.5", '"sub/ä, b.wav",0,1,0')
    first, second = load_labelled(folder).songs
    assert [song.audio for song in (first, second)] == [folder / "sub" / "ä, b.wav", folder / "c.wav"]
    np.testing.assert_allclose(first.label_times_s, [0.0, 0.5, 1.0, 1.2, 1.7, 2.2, 2.7, 3.2])
    np.testing.assert_allclose(first.labels, [[1.0, 0.0]] * 3 + [[-1.0, 0.25]] * 5)
    assert second.label_times_s[-1] >= 1.0
    assert first.split is None


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    tone(tmp_path / "good.wav", 1.0)
    (tmp_path / "bad.wav").write_text("no sound")
    found = load_labelled(labelled(tmp_path, "bad.wav,0,0,0", "missing.mp3,0,0,0", "good.wav,0,0,0"))
    assert [song.audio for song in found.songs] == [tmp_path / "good.wav"]
    assert [finding.file.name for finding in found.left_out] == ["bad.wav", "missing.mp3"]
    with pytest.raises(DeamError, match=r"No file that .*labels\.csv names can be used.*bad\.wav"):
        load_labelled(labelled(tmp_path, "bad.wav,0,0,0"))


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([], HEADER, "has no rows"),
        (["a.wav,0,2,0"], HEADER, r"line 2: .*<= 1\.0"),
        (["a.wav,0,0,0", "a.wav,-1,0,0"], HEADER, r"line 3: .*>= 0\.0"),
        (["a.wav,soon,0,0"], HEADER, "line 2: .*float"),
        (["a.wav,0,nan,0"], HEADER, "line 2"),
        (["a.wav,0,0"], HEADER, "line 2"),
        (["a.wav,0,0"], "file,valence,arousal\n", r"line 2: .*start_s.*columns file, start_s"),
    ],
)
def test_a_wrong_table_is_reported_with_its_line(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(DeamError, match=message):
        load_labelled(labelled(tmp_path, *rows, header=header))


@pytest.mark.slow
def test_fit_trains_a_model_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{index}.wav" for index in range(10)]
    for index, name in enumerate(names):
        tone(tmp_path / "music" / name, 4.0, 200.0 + 100.0 * index)
    folder = labelled(tmp_path / "music", *(f"{name},0,{index / 10 - 0.5},0.1" for index, name in enumerate(names)))
    config = tmp_path / "own.toml"
    config.write_text(
        '[model]\nname = "windows"\narguments = {n_landmarks = 20, n_members = 1, n_hidden = 4, n_narrow = 4}\n'
        '[features]\nset = "open"\nscaler = "signed_log_standard"\n'
        '[training]\nprotocol = "windows"\nepochs = 1\nbatch_songs = 16\nkeep = "last"\n'
    )
    options = ["--data", str(folder), "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "runs")]
    assert main(["fit", str(config), *options]) == 0, capsys.readouterr().err
    checkpoint = load_checkpoint(tmp_path / "runs" / "own" / "model.safetensors")
    assert checkpoint.training["split"] == {"train": 8, "validation": 1, "test": 1}
    assert not checkpoint.extraction.opensmile
