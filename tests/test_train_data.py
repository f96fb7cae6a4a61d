"""From a DEAM folder to sequences: a few real clips, and DEAM's own features without audio."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from in_process import run_in_process
from training_songs import few_clips, official, silent_console

from realtime_mer.features.engine import opensmile_names
from realtime_mer.features.extraction import ExtractionSettings, extract_file
from realtime_mer.features.gain import GainSettings
from train import features_cache
from train.data import Dataset, load_dataset
from train.deam import DeamError, load_deam
from train.sequences import align

DEAM_FEATURES = ExtractionSettings(level=None, descriptors=False)
SPLITS = {18: "train", 219: "train", 1007: "validation", 1101: "test"}


@pytest.fixture(autouse=True)
def _without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_cache, "run_in_workers", run_in_process)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(deam_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips, one of them broken, one of them also as a long stretch."""
    folder = few_clips(deam_root, tmp_path_factory.mktemp("deam") / "few", SPLITS)
    (folder / "audio" / "1007.ogg").write_text("no music")
    (folder / "audio_long").mkdir()
    shutil.copy(deam_root / "audio_long" / "219.ogg", folder / "audio_long")
    with (deam_root / "clips_long.csv").open() as file:
        lines = [line for line in file if line.startswith(("song_id", "219,"))]
    (folder / "clips_long.csv").write_text("".join(lines))
    return folder


@pytest.mark.slow
def test_real_clips_become_sequences(folder: Path, cache_dir: Path) -> None:
    console = silent_console()
    data = load_dataset(
        folder, DEAM_FEATURES, cache_dir=cache_dir, jobs=2, console=console, altered_copies=1, long_stretches=True
    )
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert data.names == opensmile_names()
    assert list(data.songs) == [18, 219, 1101]
    songs = {song.song_id: song for song in load_deam(folder).songs}
    for song_id, sequence in data.songs.items():
        audio = songs[song_id].audio
        assert audio is not None
        expected = align(songs[song_id], *extract_file(audio, DEAM_FEATURES))
        for name in ("features", "labels", "labelled", "end_s"):
            np.testing.assert_array_equal(getattr(sequence, name), getattr(expected, name))
        assert sequence.labelled.all()

    # The broken clip is reported.
    assert "Left out: 1 song." in printed
    assert re.search(r"audio/1007\.ogg: .*: song 1007", printed)
    assert "Their features: 54 frames, 54 of them with a label." in printed
    assert [entry.song_id for entry in data.deam.left_out] == [1007]

    # For training: the clip and its altered copy. The long stretch is separate.
    assert {song_id: len(taken) for song_id, taken in data.training.items()} == {18: 2, 219: 2, 1101: 2}
    assert list(data.long) == [219]
    assert len(data.long[219].features) > 30
    for song_id, (clip, copy, *_) in data.training.items():
        np.testing.assert_array_equal(clip.labels, data.songs[song_id].labels)
        assert not np.array_equal(copy.features[:5], clip.features[:5])
        # The step between a copy's frames is proportional to its speed; labels are those at the frames' ends.
        steps = np.diff(copy.end_s)
        np.testing.assert_allclose(steps, steps[0])
        assert 0.46 < steps[0] < 0.54
        assert steps[0] != 0.5
        at_s = songs[song_id].audio_start_s + copy.end_s
        expected_labels = [np.interp(at_s, songs[song_id].label_times_s, column) for column in songs[song_id].labels.T]
        np.testing.assert_allclose(copy.labels, np.stack(expected_labels, axis=1), atol=1e-6)

    # The prescribed split has no validation song left.
    assert data.prescribes_split
    with pytest.raises(DeamError, match="the prescribed split has no usable song for validation"):
        data.split(0)


@pytest.mark.slow
def test_an_unusable_folder_is_reported(deam_root: Path, tmp_path: Path, cache_dir: Path) -> None:
    folder = few_clips(deam_root, tmp_path / "few", {18: "train"})
    (folder / "audio" / "18.ogg").write_text("no music")
    with pytest.raises(DeamError, match=r"(?s)No song in .*few can be used.*audio/18\.ogg: .*: song 18"):
        load_dataset(folder, DEAM_FEATURES, cache_dir=cache_dir, jobs=1, console=silent_console())
    with pytest.raises(DeamError, match=r"clips_long\.csv cannot be read"):
        load_dataset(
            few_clips(deam_root, tmp_path / "short", {18: "train"}),
            DEAM_FEATURES,
            cache_dir=cache_dir,
            console=silent_console(),
            long_stretches=True,
        )


# ---- DEAM's own features ----------------------------------------------------------------------------------------


def load_official(root: Path, extraction: ExtractionSettings = DEAM_FEATURES) -> tuple[Dataset, str]:
    console = silent_console()
    data = load_dataset(root, extraction, cache_dir=root / "cache", console=console)
    return data, console.file.getvalue()  # type: ignore[attr-defined]


def test_without_audio_deams_own_features_are_used(tmp_path: Path) -> None:
    root = official(tmp_path, range(1, 13))
    (root / "features" / "5.csv").write_text("frameTime;nothing\n0.0;1\n")
    data, printed = load_official(root)
    assert list(data.songs) == [song_id for song_id in range(1, 13) if song_id != 5]
    assert data.songs[1].features.shape == (79, 260)
    # A frame that ends at 15 s is the first with a label; the last one ends at 40 s.
    np.testing.assert_array_equal(np.flatnonzero(data.songs[1].labelled), np.arange(28, 79))
    assert re.search(r"features/5\.csv: .*column 2 should be 'F0final_sma_stddev', got 'nothing'.*: song 5", printed)
    assert not data.prescribes_split
    split = data.split(3)
    assert sorted(song_id for part in split.values() for song_id in part) == list(data.songs)
    assert split != data.split(4)


@pytest.mark.parametrize("extraction", [ExtractionSettings(GainSettings(), False), ExtractionSettings(None, True)])
def test_deams_own_features_do_not_replace_others(tmp_path: Path, extraction: ExtractionSettings) -> None:
    with pytest.raises(DeamError, match="DEAM's own features are not the ones requested"):
        load_official(official(tmp_path, range(1, 3)), extraction)


def test_a_song_without_labelled_frames_is_left_out(tmp_path: Path) -> None:
    root = official(tmp_path, range(1, 4))
    lines = (root / "features" / "2.csv").read_text().splitlines()
    (root / "features" / "2.csv").write_text("\n".join(lines[:20]))
    data, printed = load_official(root)
    assert list(data.songs) == [1, 3]
    assert "features/2.csv: no annotation at the end of any frame: song 2" in printed
