"""The DEAM loader: both layouts, and the faults that a folder can have."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_mer.features.engine import opensmile_names
from train.deam import Deam, DeamError, folds, load_deam, read_features_csv, split_songs

DYNAMIC_NAME = "dynamic (per second annotations)"
DYNAMIC = f"annotations averaged per song/{DYNAMIC_NAME}"
Rows = dict[object, list[object]]


def write_dimension(folder: Path, name: str, rows: Iterable[tuple[object, Sequence[object]]]) -> None:
    """One of DEAM's wide tables, with columns from 15 s on."""
    folder.mkdir(parents=True, exist_ok=True)
    header = ["song_id", *(f"sample_{15000 + 500 * i}ms" for i in range(4))]
    lines: list[list[object]] = [[*header], *([song_id, *values] for song_id, values in rows)]
    (folder / f"{name}.csv").write_text("".join(",".join(map(str, line)) + "\r\n" for line in lines))


def write_annotations(root: Path, valence: Rows, arousal: Rows | None = None) -> None:
    for name, rows in (("valence", valence), ("arousal", valence if arousal is None else arousal)):
        write_dimension(root / "annotations" / DYNAMIC, name, rows.items())


def write_audio(root: Path, *names: str) -> None:
    folder = root / "MEMD_audio"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"not decoded by the loader")


def write_clips(root: Path, *rows: str, header: str = "song_id,file,start_s,duration_s") -> None:
    """The table, and the audio of songs 1, 2, 6, 7."""
    (root / "audio").mkdir(parents=True, exist_ok=True)
    for song_id in (1, 2, 6, 7):
        (root / "audio" / f"{song_id}.ogg").touch()
    (root / "clips.csv").write_text("\n".join([header, *rows]) + "\n")


def write_songs(root: Path, *song_ids: int) -> None:
    """Annotations, and an audio file for each of the songs."""
    write_annotations(root, dict.fromkeys(song_ids, VALUES))
    write_audio(root, *(f"{song_id}.mp3" for song_id in song_ids))


def ids(deam: Deam) -> list[int]:
    return [song.song_id for song in deam.songs]


def left_out(deam: Deam) -> set[tuple[int | None, str]]:
    """Song and file name of everything left out."""
    return {(entry.song_id, entry.file.name) for entry in deam.left_out}


VALUES: list[object] = [0.1, 0.2, 0.3, 0.4]


# ---- the real excerpts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def excerpts(deam_root: Path) -> Deam:
    return load_deam(deam_root)


def test_excerpts_are_complete(excerpts: Deam, deam_root: Path) -> None:
    assert len(excerpts.songs) == 1632
    assert not excerpts.left_out
    assert Counter(song.split for song in excerpts.songs) == {"train": 1306, "validation": 163, "test": 163}
    assert ids(excerpts) == sorted(ids(excerpts))
    for song in excerpts.songs:
        assert song.audio == deam_root / "audio" / f"{song.song_id}.ogg"
        assert song.audio_start_s == 30.0
        assert song.labels.shape == (len(song.label_times_s), 2)
        assert song.labels.dtype == np.float32
        # The whole clip, frame by frame, is annotated.
        assert set(np.arange(31.0, 40.0, 0.5)) <= set(song.label_times_s)


def test_labels_are_the_tables_values(excerpts: Deam, deam_root: Path) -> None:
    # Song 2002 has one more arousal value than valence values.
    for song_id in (18, 1000, 2002):
        song = next(song for song in excerpts.songs if song.song_id == song_id)
        for column, name in enumerate(("valence", "arousal")):
            with (deam_root / "annotations" / DYNAMIC / f"{name}.csv").open() as file:
                row = next(row for row in csv.DictReader(file) if row["song_id"] == str(song_id))
            expected = [float(row[f"sample_{round(time_s * 1000)}ms"]) for time_s in song.label_times_s]
            np.testing.assert_array_equal(song.labels[:, column], np.array(expected, np.float32))
    assert {note.song_id for note in excerpts.notes} == {2002, 2011, 2020, 2027, 2036, 2045}
    assert "1 value not used" in str(excerpts.notes[0])


def test_feature_names_and_reader_agree_with_the_reference(deam_root: Path) -> None:
    with np.load(deam_root / "features.npz") as reference:
        assert tuple(reference["names"]) == opensmile_names()
    frame_start_s, values = read_features_csv(deam_root / "golden" / "1002.csv")
    np.testing.assert_array_equal(frame_start_s, np.arange(18) * 0.5)
    assert values.dtype == np.float32
    table = np.loadtxt(deam_root / "golden" / "1002.csv", delimiter=";", skiprows=1)
    np.testing.assert_array_equal(values, table[:, 1:].astype(np.float32))


# ---- the official layout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotations", "audio", "features"),
    [
        ("annotations", "MEMD_audio", "features"),
        ("DEAM_Annotations/annotations", "DEAM_audio/MEMD_audio", "features/features"),
        ("DEAM/DEAM_Annotations/annotations", "DEAM/DEAM_audio/MEMD_audio", "DEAM/features/features"),
    ],
)
def test_official_layout_as_the_archives_unpack(tmp_path: Path, annotations: str, audio: str, features: str) -> None:
    for name, sign in (("valence", 1), ("arousal", -1)):
        rows = [(2, [sign * 0.1, sign * 0.2]), (10, [sign * 0.5])]
        write_dimension(tmp_path / annotations / DYNAMIC, name, rows)
    write_audio((tmp_path / audio).parent, "2.mp3", "10.MP3")
    (tmp_path / features).mkdir(parents=True)
    for song_id in (2, 10):
        (tmp_path / features / f"{song_id}.csv").touch()
    # Other contents of the archives are ignored.
    (tmp_path / "__MACOSX" / "MEMD_audio").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "MEMD_audio" / "2.mp3").touch()
    (tmp_path / audio / ".DS_Store").touch()

    deam = load_deam(tmp_path)

    assert ids(deam) == [2, 10]
    song, other = deam.songs
    assert song.audio == tmp_path / audio / "2.mp3"
    assert song.features_csv == tmp_path / features / "2.csv"
    assert (song.audio_start_s, song.split) == (0.0, None)
    np.testing.assert_array_equal(song.label_times_s, [15.0, 15.5])
    np.testing.assert_array_equal(song.labels, np.array([[0.1, -0.1], [0.2, -0.2]], np.float32))
    assert len(other.labels) == 1
    assert not deam.left_out
    assert not deam.notes
    assert deam.summary() == f"{tmp_path}: 2 songs with 3 annotation frames.\nNothing was left out."


def test_a_song_with_either_audio_or_features_is_used_and_noted(tmp_path: Path) -> None:
    write_annotations(tmp_path, {7: VALUES, 8: VALUES, 9: VALUES})
    write_audio(tmp_path, "7.mp3", "8.mp3")
    features = tmp_path / "features"
    features.mkdir()
    (features / "8.csv").touch()
    (features / "9.csv").touch()
    deam = load_deam(tmp_path)
    audio = tmp_path / "MEMD_audio"
    assert [(song.song_id, song.audio, song.features_csv) for song in deam.songs] == [
        (7, audio / "7.mp3", None),
        (8, audio / "8.mp3", features / "8.csv"),
        (9, None, features / "9.csv"),
    ]
    assert {str(note) for note in deam.notes} == {
        f"{audio}: no file for song 9",
        f"{features}: no file for song 7",
    }


# ---- songs that are left out -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cell"), [("valence", "loud"), ("arousal", "1.2"), ("arousal", "inf")])
def test_a_bad_cell_leaves_the_song_out(tmp_path: Path, name: str, cell: str) -> None:
    write_songs(tmp_path, 5, 6)
    table = tmp_path / "annotations" / DYNAMIC / f"{name}.csv"
    rows: Rows = {5: [0.0, cell, 0.0, 0.0], 6: VALUES}
    write_dimension(table.parent, name, rows.items())
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # a byte order mark is ignored
    deam = load_deam(tmp_path)
    assert ids(deam) == [6]
    (entry,) = deam.left_out
    assert (entry.song_id, entry.file) == (5, table)
    assert f"sample_15500ms is '{cell}'" in entry.text


def test_every_fault_is_reported_with_file_and_song(tmp_path: Path) -> None:
    valence: Rows = dict.fromkeys((1, 3, 5, 6, "7.5", "seven", 11), VALUES)
    valence.update({2: [*VALUES, 0.5], 8: [], 9: [0.1]})
    arousal: Rows = dict.fromkeys((1, 2, 4, 5, 6, 8, 11), VALUES)
    arousal[9] = ["", 0.1]
    write_annotations(tmp_path, valence, arousal)
    table = tmp_path / "annotations" / DYNAMIC / "valence.csv"
    table.write_text(table.read_text() + "\r\n6,0.1,0.1,0.1,0.1\r\n")
    write_audio(tmp_path, *(f"{song_id}.mp3" for song_id in (1, 2, 3, 4, 6, 8, 9, 10)), "11.wav", "011.mp3")
    write_audio(tmp_path, "1.txt", "cover.mp3")

    deam = load_deam(tmp_path)

    assert ids(deam) == [1]
    assert left_out(deam) == {
        (2, "valence.csv"),  # more values than columns
        (3, DYNAMIC_NAME),  # no time with both dimensions
        (4, DYNAMIC_NAME),
        (5, DYNAMIC_NAME),  # no audio and no features
        (6, "valence.csv"),  # two rows
        (None, "valence.csv"),  # no song_id, in two rows
        (8, DYNAMIC_NAME),  # no time with both dimensions
        (9, DYNAMIC_NAME),
        (10, "10.mp3"),  # not annotated
        (11, "011.mp3"),  # two files
        (None, "1.txt"),  # not audio
        (None, "cover.mp3"),  # no song_id
    }
    summary = deam.summary()
    assert "1 song with 4 annotation frames" in summary
    assert "Left out: 9 songs and 4 rows or files that belong to no song." in summary
    for entry in deam.left_out:
        assert entry.text in summary


def test_summary_groups_songs_left_out_for_the_same_reason(tmp_path: Path) -> None:
    write_annotations(tmp_path, dict.fromkeys((1, 2, 3, 5, 9), VALUES))
    write_audio(tmp_path, "9.mp3")
    _, *lines = load_deam(tmp_path).summary().splitlines()
    assert len(lines) == 2
    assert "4 songs" in lines[0]
    assert lines[1].endswith(": 4 songs: 1, 2, 3, 5")


@pytest.mark.parametrize("hole", ["", "NaN", "nan"])
def test_a_gap_leaves_out_that_time_only_and_is_noted(tmp_path: Path, hole: str) -> None:
    write_annotations(tmp_path, {5: [0.1, hole, 0.3, hole]}, {5: VALUES})
    write_audio(tmp_path, "5.mp3")
    deam = load_deam(tmp_path)
    np.testing.assert_array_equal(deam.songs[0].label_times_s, [15.0, 16.0])
    np.testing.assert_array_equal(deam.songs[0].labels, np.array([[0.1, 0.1], [0.3, 0.3]], np.float32))
    assert [note.song_id for note in deam.notes] == [5, 5]
    assert "2 values not used" in deam.summary()


def test_rows_of_different_lengths_are_songs_of_different_lengths(tmp_path: Path) -> None:
    write_annotations(tmp_path, {5: [0.1, 0.2, "", ""], 6: [0.1, 0.2], 7: [*VALUES, "", ""]})
    write_audio(tmp_path, "5.mp3", "6.mp3", "7.mp3")
    deam = load_deam(tmp_path)
    assert [len(song.labels) for song in deam.songs] == [2, 2, 4]
    assert not deam.notes


# ---- unusable folders ------------------------------------------------------------------------------


def test_a_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(DeamError, match="is missing"):
        load_deam(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DeamError, match="is a file"):
        load_deam(tmp_path / "notes.txt")
    with pytest.raises(DeamError, match=r"does not look like DEAM.*dynamic.*got notes\.txt\."):
        load_deam(tmp_path)


def test_no_usable_song(tmp_path: Path) -> None:
    write_annotations(tmp_path, {5: ["x"]})
    (tmp_path / "MEMD_audio").mkdir()
    with pytest.raises(DeamError, match=r"no songs.*MEMD_audio.*features.*clips\.csv.*got MEMD_audio/, ann"):
        load_deam(tmp_path)
    write_audio(tmp_path, "5.mp3")
    with pytest.raises(DeamError, match=r"No song in .*can be used(.|\n)*sample_15000ms is 'x'(.|\n)*song 5"):
        load_deam(tmp_path)


def test_the_same_folder_twice(tmp_path: Path) -> None:
    write_annotations(tmp_path, {5: VALUES})
    write_audio(tmp_path / "a", "5.mp3")
    write_audio(tmp_path / "b", "5.mp3")
    with pytest.raises(DeamError, match=r"MEMD_audio was found more than once: .*/a/MEMD_audio, .*/b/MEMD_audio"):
        load_deam(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected the columns song_id, got ''"),
        (b"song_id;sample_15000ms\n5;0.1\n", "expected the columns song_id, got 'song_id;sample"),
        (b"sample_15000ms,song_id\n0.1,5\n", "expected the columns song_id, got 'sample_15000ms, song_id'"),
        (b"song_id,sample_15000ms,mean\n5,0.1,0.1\n", "sample_<time>ms, got 'mean'"),
        (b"song_id,sample_15000ms,sample_15000ms\n5,0.1,0.1\n", "got 15000 ms after 15000 ms"),
        (b"song_id,sample_15000ms,sample_16000ms\n5,0.1,0.1\n", "got 16000 ms after 15000 ms"),
        (b"PK\x03\x04\xff\xfe\x00", "is not a CSV file"),
        (None, r"cannot be read: No such file"),
    ],
)
def test_a_wrong_annotation_table(tmp_path: Path, content: bytes | None, message: str) -> None:
    write_songs(tmp_path, 5)
    table = tmp_path / "annotations" / DYNAMIC / "arousal.csv"
    if content is None:
        table.unlink()
    else:
        table.write_bytes(content)
    with pytest.raises(DeamError, match=message) as caught:
        load_deam(tmp_path)
    assert "arousal.csv" in str(caught.value)


# ---- excerpts ---------------------------------------------------------------------------------------------------


def test_every_fault_of_the_excerpts_is_reported(tmp_path: Path) -> None:
    write_annotations(tmp_path, dict.fromkeys((1, 2, 3, 4, 5, 7, 8), VALUES))
    rows = ("1,audio/1.ogg,15.0", "2,audio/2.ogg,late", "3,audio/3.ogg,15", "4,audio/4.ogg,15", "4,audio/4.ogg,15")
    write_clips(tmp_path, *rows, "6,audio/6.ogg,15", "x,audio/1.ogg,15", "7,audio/7.ogg,15", "8,../8.ogg,15")
    for name in ("4.ogg", "../8.ogg"):
        (tmp_path / "audio" / name).touch()
    (tmp_path / "splits.csv").write_text("song_id,split\n1,test\n7,dev\n")
    deam = load_deam(tmp_path)
    assert [(song.song_id, song.audio_start_s, song.split) for song in deam.songs] == [(1, 15.0, "test")]
    assert left_out(deam) == {
        (2, "clips.csv"),  # no start
        (3, "clips.csv"),  # no such file
        (4, "clips.csv"),  # two rows
        (5, DYNAMIC_NAME),  # not in clips.csv
        (6, "6.ogg"),  # not annotated
        (None, "clips.csv"),  # no song_id
        (7, "splits.csv"),  # unknown split
        (8, "clips.csv"),  # outside of the folder
    }


def test_excerpts_without_a_split(tmp_path: Path) -> None:
    write_annotations(tmp_path, {1: VALUES, 2: VALUES})
    write_clips(tmp_path, "1,audio/1.ogg,15", "2,audio/2.ogg,15")
    deam = load_deam(tmp_path)
    assert [song.split for song in deam.songs] == [None, None]
    assert not deam.notes
    (tmp_path / "splits.csv").write_text("song_id,split\n1,train\n")
    deam = load_deam(tmp_path)
    assert [song.split for song in deam.songs] == ["train", None]
    assert [str(note) for note in deam.notes] == [f"{tmp_path / 'splits.csv'}: no split for song 2"]


@pytest.mark.parametrize("column", ["song_id", "file", "start_s"])
def test_a_missing_column_of_the_excerpts(tmp_path: Path, column: str) -> None:
    write_annotations(tmp_path, {1: VALUES})
    write_clips(tmp_path, "1,audio/1.ogg,15", header="song_id,file,start_s".replace(column, "other"))
    with pytest.raises(DeamError, match=r"clips\.csv: expected the columns song_id, file, start_s, got '.*other"):
        load_deam(tmp_path)


def test_missing_long_stretches(tmp_path: Path) -> None:
    write_songs(tmp_path, 1)
    with pytest.raises(DeamError, match=r"no clips_long\.csv"):
        load_deam(tmp_path, stretches="long")
    write_clips(tmp_path, "1,audio/1.ogg,15")
    with pytest.raises(DeamError, match=r"clips_long\.csv cannot be read"):
        load_deam(tmp_path, stretches="long")


def test_long_stretches_of_some_songs(tmp_path: Path) -> None:
    write_annotations(tmp_path, {1: VALUES, 2: [0.1, "", 0.1], 3: [0.1, "", 0.1]})
    write_clips(tmp_path, *(f"{song_id},audio/{song_id}.ogg,15" for song_id in (1, 2, 3)))
    (tmp_path / "clips_long.csv").write_text("song_id,file,start_s\n2,audio/2.ogg,16.5\n")
    deam = load_deam(tmp_path, stretches="long")
    assert [(song.song_id, song.audio_start_s) for song in deam.songs] == [(2, 16.5)]
    assert not deam.left_out
    # Nothing on song 3, which has no stretch: on song 2 the gap, and how many songs have no stretch.
    assert [note.song_id for note in deam.notes] == [2, None]


# ---- nothing silently dropped -----------------------------------------------------------------------------------

cells = st.sampled_from(["0.5", "-1", "", "NaN", "x", "1.5", " 0.25 "])
tables = st.lists(st.tuples(st.integers(1, 6), st.lists(cells, max_size=5)), min_size=1, max_size=6)


@settings(max_examples=30)
@given(valence=tables, arousal=tables, audio=st.sets(st.integers(1, 7), min_size=1))
def test_every_song_is_used_or_left_out(
    valence: list[tuple[object, list[object]]], arousal: list[tuple[object, list[object]]], audio: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # One good song, so that there is something to load.
        audio = {*audio, 8}
        for name, rows in (("valence", valence), ("arousal", arousal)):
            write_dimension(root / "annotations" / DYNAMIC, name, [*rows, (8, VALUES)])
        write_audio(root, *(f"{song_id}.mp3" for song_id in audio))
        everything = audio | {song_id for song_id, _ in valence + arousal}
        deam = load_deam(root)
        not_used = {entry.song_id for entry in deam.left_out}
        assert set(ids(deam)) | not_used == everything
        assert not set(ids(deam)) & not_used
        for song in deam.songs:
            assert len(song.label_times_s) == len(song.labels) > 0
            assert np.all(np.abs(song.labels) <= 1.0)
            assert song.song_id in audio


# ---- splits -----------------------------------------------------------------------------------------------------


def test_splits_are_the_published_sizes() -> None:
    split = split_songs(range(1, 1633), seed=0)
    assert {name: len(part) for name, part in split.items()} == {"train": 1306, "validation": 163, "test": 163}


@pytest.mark.parametrize("n_songs", [6, 12, 61])
def test_split_is_a_partition_that_only_the_seed_decides(n_songs: int) -> None:
    song_ids = range(7, 7 + n_songs)
    split = split_songs(song_ids, 3)
    assert split == split_songs(reversed(song_ids), 3) != split_songs(song_ids, 4)
    assert sorted(sum(split.values(), ())) == [*song_ids]
    assert all(split.values())


def test_too_few_songs() -> None:
    with pytest.raises(ValueError, match="4 songs cannot be split"):
        split_songs(range(4), seed=0)
    for n_folds in (1, 5):
        with pytest.raises(ValueError, match="2 to 4 folds for 4 songs"):
            folds(range(4), n_folds, seed=0)


@pytest.mark.parametrize(("n_songs", "n_folds"), [(10, 10), (13, 5), (60, 2)])
def test_folds_test_every_song_once(n_songs: int, n_folds: int) -> None:
    song_ids = range(7, 7 + n_songs)
    parts = folds(song_ids, n_folds, seed=3)
    assert parts == folds(reversed(song_ids), n_folds, seed=3) != folds(song_ids, n_folds, seed=4)
    assert sorted(sum((part["test"] for part in parts), ())) == [*song_ids]
    sizes = [len(part["test"]) for part in parts]
    assert len(sizes) == n_folds
    assert max(sizes) - min(sizes) <= 1
    for part in parts:
        assert sorted(part["train"] + part["test"]) == [*song_ids]


# ---- DEAM's own features ----------------------------------------------------------------------------------------

HEADER = ["frameTime", *opensmile_names()]


def write_features(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    path.write_text("".join(";".join(line) + "\n" for line in [header, *rows]))
    return path


def feature_row(frame_start_s: float, **changes: str) -> list[str]:
    row = [str(frame_start_s), *(f"{index}e-1" for index in range(260))]
    return [changes.get(f"c{column}", text) for column, text in enumerate(row)]


def test_read_features(tmp_path: Path) -> None:
    path = write_features(tmp_path / "7.csv", HEADER, [feature_row(15.0), feature_row(15.5)])
    frame_start_s, values = read_features_csv(path)
    np.testing.assert_array_equal(frame_start_s, [15.0, 15.5])
    np.testing.assert_array_equal(values, np.tile(np.arange(260) / 10, (2, 1)).astype(np.float32))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (HEADER[:-1], [], "column 261 should be 'pcm_fftMag_mfcc_sma_de.14._amean', got 'nothing'"),
        ([*HEADER[:2], "pitch", *HEADER[3:]], [], "column 3 should be 'F0final_sma_amean', got 'pitch'"),
        (HEADER, [], "no frame below the header"),
        (HEADER, [feature_row(0.0), feature_row(0.5)[:-1]], "expected 261 values in row 2, got 260"),
        (HEADER, [feature_row(0.0), feature_row(0.5, c4="nan")], "Unclipped_sma_amean .* in row 2, got 'nan'"),
        *(
            (HEADER, [feature_row(0.0, c1=text)], f"F0final_sma_stddev as a finite number in row 1, got '{text}'")
            for text in ("loud", "1e39")
        ),
        (HEADER, [feature_row(0.0), feature_row(1.0)], "expected a frameTime every 0.5 s"),
        (HEADER, [feature_row(0.5), feature_row(0.0)], "expected a frameTime every 0.5 s"),
    ],
)
def test_wrong_features(tmp_path: Path, header: list[str], rows: list[list[str]], message: str) -> None:
    path = write_features(tmp_path / "7.csv", header, rows)
    with pytest.raises(DeamError, match=message) as caught:
        read_features_csv(path)
    assert str(path) in str(caught.value)


def test_unreadable_features(tmp_path: Path) -> None:
    path = tmp_path / "7.csv"
    with pytest.raises(DeamError, match=r"7\.csv cannot be read: No such file"):
        read_features_csv(path)
    path.write_bytes(b"ID3\xff\xfb\x90")
    with pytest.raises(DeamError, match=r"7\.csv is not a CSV file"):
        read_features_csv(path)
