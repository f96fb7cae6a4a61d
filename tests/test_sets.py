"""Sets of songs in one stream: the place of each song's sound and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.features.conditioning import Resampler
from realtime_mer.features.engine import ENGINE_RATE_HZ, opensmile_names
from realtime_mer.features.extraction import ExtractionSettings, extract_file
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.types import FloatArray
from train.deam import Song
from train.features_cache import Features
from train.sequences import SongSequence, align
from train.sets import SongSet, joined, set_sequences, write_set

AUDIO_START_S = 30.0


def song(song_id: int, audio: Path | None = None, labels_from_s: float = 15.0) -> Song:
    """A song whose labels hold song and time: valence song_id / 10, arousal rises by .01 per second."""
    times_s = np.arange(labels_from_s, 45.25, 0.5)
    labels = np.stack([np.full(len(times_s), song_id / 10.0), times_s / 100.0], axis=1).astype(np.float32)
    return Song(song_id, audio, AUDIO_START_S, None, times_s, labels, None)


def with_audio(folder: Path, song_id: int, samples: npt.NDArray[np.floating], rate_hz: int = ENGINE_RATE_HZ) -> Song:
    path = folder / f"{song_id}.wav"
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return song(song_id, path)


def noise(n_samples: int, n_channels: int = 1, seed: int = 0) -> FloatArray:
    return (0.2 * np.random.default_rng(seed).normal(size=(n_samples, n_channels))).astype(np.float32)


def half_seconds(n: int) -> npt.NDArray[np.float64]:
    return np.arange(n, dtype=np.float64) / 2.0


# --- the sound


def test_a_set_is_its_songs_cut_to_cut(tmp_path: Path) -> None:
    stereo, mono, slow = noise(30_000, 2), 4.0 * noise(10_007, seed=1), noise(9_000, seed=2)
    songs = [
        with_audio(tmp_path, 1, stereo),
        with_audio(tmp_path, 2, mono),
        with_audio(tmp_path, 3, slow, 22_050),
        with_audio(tmp_path, 2, mono),
    ]
    song_set = write_set(songs, tmp_path / "set.flac")
    lengths = [30_000, 10_007, 18_000, 10_007]
    starts = np.cumsum([0, *lengths])
    assert song_set.songs == tuple(songs)
    assert song_set.file == tmp_path / "set.flac"
    np.testing.assert_allclose([*song_set.starts_s, song_set.duration_s], starts / ENGINE_RATE_HZ, rtol=0.0, atol=1e-12)

    with soundfile.SoundFile(song_set.file) as file:
        assert (file.samplerate, file.channels, file.format, file.subtype) == (44_100, 1, "FLAC", "PCM_16")
        samples = file.read(dtype="float32")
    assert len(samples) == starts[-1]
    resampler = Resampler(22_050)
    resampled = np.concatenate([resampler.step(slow[:, 0]), resampler.flush()])
    # The first song's channels are averaged, the second is clipped; 16 bits hold all to half a bit.
    expected = np.concatenate(
        [stereo.mean(axis=1), np.clip(mono[:, 0], -1.0, 1.0), resampled, np.clip(mono[:, 0], -1, 1)]
    )
    assert np.abs(mono).max() > 1.0
    np.testing.assert_allclose(samples, expected, rtol=0.0, atol=1.01 / 32_768)


def test_a_song_without_usable_audio_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Song 7 has no audio to play in a set"):
        write_set([with_audio(tmp_path, 1, noise(1_000)), song(7)], tmp_path / "set.flac")
    (tmp_path / "8.wav").write_bytes(b"no audio")
    with pytest.raises(AudioFileError, match=r"8\.wav cannot be read"):
        write_set([song(8, tmp_path / "8.wav")], tmp_path / "set.flac")
    with pytest.raises(AudioFileError, match=r"8\.wav"):
        write_set([with_audio(tmp_path, 8, noise(0))], tmp_path / "set.flac")


# --- the frames


def a_set(durations_s: list[float]) -> tuple[SongSet, Features]:
    """Songs 1, 2, … and features that hold the frame's number."""
    starts_s = np.cumsum([0.0, *durations_s])
    songs = tuple(song(i + 1) for i in range(len(durations_s)))
    n_frames = int((starts_s[-1] - 1.0) / 0.5) + 1
    numbers = np.arange(n_frames, dtype=np.float32)[:, None]
    song_set = SongSet(songs, Path("set.flac"), tuple(starts_s[:-1]), float(starts_s[-1]))
    return song_set, Features(half_seconds(n_frames), numbers)


@given(st.lists(st.floats(1.6, 12.0), min_size=1, max_size=6))
def test_every_frame_belongs_to_the_song_in_which_it_ends(durations_s: list[float]) -> None:
    song_set, features = a_set(durations_s)
    sequences = set_sequences(song_set, features)
    assert [sequence.song_id for sequence in sequences] == [each.song_id for each in song_set.songs]
    numbers = np.concatenate([sequence.features[:, 0] for sequence in sequences])
    np.testing.assert_array_equal(numbers, np.arange(len(features.values)))
    ends_s = np.concatenate([[*song_set.starts_s[1:], song_set.duration_s]])
    for sequence, start_s, end_s in zip(sequences, song_set.starts_s, ends_s, strict=True):
        np.testing.assert_array_equal(sequence.end_s, 0.5 * sequence.features[:, 0] + 1.0)
        assert sequence.end_s[0] > start_s
        assert sequence.end_s[-1] <= end_s
        # The labels of that moment of that song.
        np.testing.assert_allclose(sequence.labels[:, 0], sequence.song_id / 10.0, rtol=0.0, atol=1e-6)
        moment_s = AUDIO_START_S + sequence.end_s - start_s
        np.testing.assert_allclose(sequence.labels[:, 1], moment_s / 100.0, rtol=0.0, atol=1e-5)
        assert sequence.labelled.all()


def test_frames_inside_have_the_labels_of_the_song_alone() -> None:
    """If a song begins at a multiple of 0.5 s, its frames are those that it has alone, and one before."""
    song_set, features = a_set([10.0, 6.5, 8.0])
    second = set_sequences(song_set, features)[1]
    alone = align(song_set.songs[1], half_seconds(12), np.zeros((12, 1), dtype=np.float32))
    assert len(second.features) == 13
    np.testing.assert_array_equal(second.labels[1:], alone.labels)
    np.testing.assert_array_equal(second.labelled[1:], alone.labelled)
    assert second.end_s[0] == 10.5, "this frame starts in the song before"


def test_frames_before_the_annotations_have_no_label() -> None:
    """Annotations that begin at song time 31.0: the frame that ends at 30.5 has none."""
    song_set, features = a_set([4.0, 4.0])
    late = SongSet(
        (song_set.songs[0], song(2, labels_from_s=31.0)), song_set.file, song_set.starts_s, song_set.duration_s
    )
    second = set_sequences(late, features)[1]
    np.testing.assert_array_equal(second.labelled, [False] + [True] * 7)
    np.testing.assert_array_equal(second.labels[0], [0.0, 0.0])


def test_sound_and_labels_agree_after_real_extraction(tmp_path: Path) -> None:
    """A loud song, a quiet one, a loud one; the cut lies beside the frames' grid."""
    songs = [with_audio(tmp_path, i, gain * noise(90_000, seed=i)) for i, gain in ((1, 1.0), (2, 0.05), (3, 1.0))]
    song_set = write_set(songs, tmp_path / "set.flac")
    starts_s, values = extract_file(song_set.file, ExtractionSettings(level=None, descriptors=False))
    column = opensmile_names().index("pcm_RMSenergy_sma_amean")
    sequences = set_sequences(song_set, Features(starts_s, values))
    assert sum(len(sequence.features) for sequence in sequences) == len(starts_s)
    for sequence, start_s, rms in zip(sequences, song_set.starts_s, (0.2, 0.01, 0.2), strict=True):
        inside = sequence.end_s - 1.0 >= start_s + 0.05
        assert inside.sum() >= 2
        np.testing.assert_allclose(sequence.features[inside, column], rms, rtol=0.1)


# --- joined


def sequences_of(lengths: list[int]) -> list[SongSequence]:
    return [
        SongSequence(
            song_id,
            np.full((n, 3), song_id, dtype=np.float32),
            np.full((n, 2), song_id / 10.0, dtype=np.float32),
            np.arange(n) % 2 == 0,
            half_seconds(n) + 100.0 * song_id,
        )
        for song_id, n in enumerate(lengths, start=1)
    ]


@pytest.mark.parametrize("label_from", [0, 1, 2])
def test_songs_that_lead_in_have_no_labels(label_from: int) -> None:
    songs = sequences_of([3, 1, 4])
    one = joined(songs, label_from=label_from)
    assert one.song_id == 3
    for name in ("features", "labels", "end_s"):
        np.testing.assert_array_equal(getattr(one, name), np.concatenate([getattr(each, name) for each in songs]))
    expected = [song.labelled if i >= label_from else [False] * len(song.labelled) for i, song in enumerate(songs)]
    np.testing.assert_array_equal(one.labelled, np.concatenate(expected))
    assert one.labelled.dtype == np.bool_
    assert songs[0].labelled[0], "the songs themselves are not changed"
