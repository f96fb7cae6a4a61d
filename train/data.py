"""The data for training: for each song of DEAM a sequence of features, extracted or DEAM's own, and its labels."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from realtime_mer.features.extraction import ExtractionSettings, describe_configuration, extract_file, frame_names
from train.augmentation import (
    AlteredExtraction,
    GainExtraction,
    describe_alterations,
    extract_altered,
    extract_at_gain,
)
from train.deam import (
    SPLIT_NAMES,
    Deam,
    DeamError,
    Finding,
    Song,
    Split,
    load_deam,
    read_features_csv,
    split_songs,
)
from train.features_cache import Extraction, Features, extract_songs
from train.labelled import TABLE, load_labelled
from train.sequences import SongSequence, align
from train.sets import joined, set_sequences, write_set
from train.windows import N_WINDOWS, OtherClip, OtherWindows, extract_windows

# The contents of DEAM's own features/<song_id>.csv.
_DEAM_EXTRACTION = ExtractionSettings(level=None, descriptors=False)
# The songs of a set are the same in every run, so that their features stay in the cache.
_SETS_SEED = 0

Extract = Callable[[Sequence[Path]], Extraction]


@dataclass(frozen=True, eq=False)
class Dataset:
    """The songs of a DEAM folder with their features.

    deam: the folder; a song without features is in its `left_out`, not in its `songs`.
    extraction: how the features were made. names: the features' names, in order.
    songs: by song_id, each song; the label of a frame is the one at its end.
    training: by song_id, the sequences that training uses: the song itself and its altered copies.
    long: by song_id, the long stretches; empty if not requested.
    sets: for each set its songs' frames in playing order (train.sets); empty if not requested.
    others: windows of clips from outside DEAM, "quadrants" and "ratings", as requested.
    """

    deam: Deam
    extraction: ExtractionSettings
    names: tuple[str, ...]
    songs: Mapping[int, SongSequence]
    training: Mapping[int, tuple[SongSequence, ...]]
    long: Mapping[int, SongSequence]
    sets: tuple[tuple[SongSequence, ...], ...] = ()
    others: Mapping[str, OtherWindows] = field(default_factory=dict)

    @property
    def prescribes_split(self) -> bool:
        """Whether the data define a split."""
        return any(song.split is not None for song in self.deam.songs)

    def split(self, seed: int) -> Split:
        """The split that the data define, or else the seed's random one: 80 % train, 10 % validation, 10 % test.

        Raises DeamError if a part of a defined split has no song, ValueError if there are too few songs to split.
        """
        if not self.prescribes_split:
            return split_songs(self.songs, seed)
        parts = {name: tuple(song.song_id for song in self.deam.songs if song.split == name) for name in SPLIT_NAMES}
        for name, song_ids in parts.items():
            if not song_ids:
                raise DeamError(f"{self.deam.root}: the prescribed split has no usable song for {name}.")
        return parts

    def selected(self, sequences: Sequence[SongSequence], names: Sequence[str]) -> list[SongSequence]:
        """Sequences of this data set with these features only, in this order.

        Raises ValueError for an unknown feature.
        """
        columns = {name: column for column, name in enumerate(self.names)}
        missing = [name for name in names if name not in columns]
        if missing:
            raise ValueError(f"These data have no feature {missing[0]!r} ({len(missing)} are missing in all).")
        chosen = [columns[name] for name in names]
        return [replace(sequence, features=sequence.features[:, chosen]) for sequence in sequences]

    def set_runs(self, song_ids: Iterable[int]) -> list[SongSequence]:
        """Training sequences from the sets: each song preceded by the song before it, without that song's labels.

        Only if both are among `song_ids`. The features may still depend on the song before these two, as far back as
        descriptors and gain stage remember, but its labels are not used.
        """
        allowed = frozenset(song_ids)
        return [
            joined([before, song], label_from=1)
            for songs in self.sets
            for before, song in pairwise(songs)
            if before.song_id in allowed and song.song_id in allowed
        ]


def load_dataset(
    deam_root: Path,
    extraction: ExtractionSettings,
    *,
    cache_dir: Path | None = None,
    jobs: int | None = None,
    console: Console,
    altered_copies: int = 0,
    long_stretches: bool = False,
    sets: int = 0,
    set_songs: int = 60,
    windows: bool = False,
    others: Mapping[str, Sequence[OtherClip]] | None = None,
) -> Dataset:
    """Reads a DEAM folder, or one of labelled music (train.labelled), and extracts its features, or reads them from the
    cache.

    For a song without audio DEAM's own features are used, if `extraction` asks for just those. Prints how many songs
    and annotation frames are used, and everything left out.

    cache_dir, jobs: as in train.features_cache.extract_songs. long_stretches: also load those, for scoring.
    windows: train on windows of the songs instead of their frames. others: clips from outside DEAM whose windows are
    used too, by kind. The rest: as in train.config.TrainingConfig.

    Raises DeamError if the folder is not DEAM or no song is usable, FeatureCacheError if the cache cannot be used.
    """
    configuration = describe_configuration(extraction)
    cached = partial(extract_songs, cache_dir=cache_dir, jobs=jobs, console=console)
    extract: Extract = partial(cached, extract=extract_file, settings=extraction, configuration=configuration)
    labelled = load_labelled(deam_root) if (deam_root / TABLE).is_file() else load_deam(deam_root)
    clips, features = _with_features(labelled, extraction, extract, console)
    songs = {song.song_id: _aligned(song, features) for song in clips.songs}
    training = {song_id: [song] for song_id, song in songs.items()}
    for copy in range(1, altered_copies + 1):
        console.print(f"Altered copy {copy} of {altered_copies}:")
        altered = AlteredExtraction(extraction, copy)
        described = configuration + describe_alterations(altered)
        extract_copy = partial(cached, extract=extract_altered, settings=altered, configuration=described)
        clips, copies = _with_copies(clips, copy, extract_copy)
        for song in clips.songs:
            if song.song_id in copies:
                training[song.song_id].append(_aligned_copy(song, copies[song.song_id]))
    other_windows = {}
    if windows:
        described = f"{configuration} {N_WINDOWS} windows {_window_code()}"
        extract_windowed: Extract = partial(cached, extract=extract_windows, settings=None, configuration=described)
        found, _ = _extracted(clips, extract_windowed)
        training = {s.song_id: [_aligned_copy(s, found[s.song_id])] for s in clips.songs if s.song_id in found}
        for kind, chosen in (others or {}).items():
            files = [clip.path for clip in chosen]
            other_windows[kind] = _other_windows(chosen, extract_windowed(files), extract(files))
    _print(console, f"{clips.summary()}\n{_frames_in_words(songs.values())}")

    long = {}
    if long_stretches:
        stretches, features = _with_features(load_deam(deam_root, "long"), extraction, extract, console)
        long = {song.song_id: _aligned(song, features) for song in stretches.songs}
        _print(console, f"Long stretches: {stretches.summary()}\n{_frames_in_words(long.values())}")
    taken = {song_id: tuple(sequences) for song_id, sequences in training.items()}
    dataset = Dataset(clips, extraction, frame_names(extraction), songs, taken, long)
    dataset = replace(dataset, others=other_windows)
    return replace(dataset, sets=_sets(dataset, extract, sets, set_songs)) if sets else dataset


def _window_code() -> str:
    """What tells apart what different versions of `extract_windows` would give."""
    return hashlib.sha256(inspect.getsource(extract_windows).encode()).hexdigest()


def _other_windows(clips: Sequence[OtherClip], windows: Extraction, frames: Extraction) -> OtherWindows:
    """Raises DeamError for a clip that gives none."""
    for failure in (*windows.failures, *frames.failures):
        raise DeamError(f"A clip gave no features: {failure}")
    found = [windows.features[clip.path].values for clip in clips]
    clip = np.repeat(np.arange(len(clips)), [len(values) for values in found])
    targets = np.array([c.target for c in clips])[clip]
    return OtherWindows(clip, np.concatenate(found), targets, tuple(frames.features[c.path].values for c in clips))


def load_at_gain(
    dataset: Dataset,
    song_ids: Sequence[int],
    gain_db: float,
    *,
    cache_dir: Path | None = None,
    jobs: int | None = None,
    console: Console,
) -> list[SongSequence]:
    """Songs of a data set at another input gain into a 16-bit sound card, in the order of `song_ids`.

    Raises DeamError for a song without features at this gain.
    """
    settings = GainExtraction(dataset.extraction, gain_db)
    extract: Extract = partial(
        extract_songs,
        extract=extract_at_gain,
        settings=settings,
        configuration=describe_configuration(dataset.extraction) + describe_alterations(settings),
        cache_dir=cache_dir,
        jobs=jobs,
        console=console,
    )
    by_id = {song.song_id: song for song in dataset.deam.songs}
    songs = replace(dataset.deam, songs=tuple(by_id[song_id] for song_id in song_ids))
    features, reasons = _extracted(songs, extract)
    for song_id in song_ids:
        if song_id not in features:
            raise DeamError(f"Song {song_id} has no features at {gain_db} dB: {reasons.get(song_id, 'no audio')}")
    return [_aligned(by_id[song_id], features) for song_id in song_ids]


def load_set(
    dataset: Dataset,
    song_ids: Sequence[int],
    *,
    cache_dir: Path | None = None,
    jobs: int | None = None,
    console: Console,
) -> tuple[SongSequence, ...]:
    """The frames of each of these songs, played one after the other through the extraction in one piece."""
    extract: Extract = partial(
        extract_songs,
        extract=extract_file,
        settings=dataset.extraction,
        configuration=describe_configuration(dataset.extraction),
        cache_dir=cache_dir,
        jobs=jobs,
        console=console,
    )
    by_id = {song.song_id: song for song in dataset.deam.songs}
    return _played([[by_id[song_id] for song_id in song_ids]], extract)[0]


def _sets(dataset: Dataset, extract: Extract, n_sets: int, n_songs: int) -> tuple[tuple[SongSequence, ...], ...]:
    """Sets of training songs in random order, each played through the extraction in one piece.

    Raises DeamError if there are too few songs with audio.
    """
    in_training = frozenset(dataset.split(_SETS_SEED)["train"])
    songs = [song for song in dataset.deam.songs if song.song_id in in_training and song.audio is not None]
    if len(songs) < n_sets * n_songs:
        raise DeamError(f"{n_sets} sets of {n_songs} songs need more than the {len(songs)} training songs with audio.")
    order = np.random.default_rng(_SETS_SEED).permutation(len(songs))
    return _played([[songs[i] for i in order[k * n_songs : (k + 1) * n_songs]] for k in range(n_sets)], extract)


def _played(sets: Sequence[Sequence[Song]], extract: Extract) -> tuple[tuple[SongSequence, ...], ...]:
    with tempfile.TemporaryDirectory(prefix="realtime-mer-sets-") as folder:
        written = [write_set(songs, Path(folder) / f"{k}.flac") for k, songs in enumerate(sets)]
        extracted = extract([each.file for each in written])
    if extracted.failures:
        raise DeamError(f"A set has no features: {extracted.failures[0]}")
    return tuple(tuple(set_sequences(each, extracted.features[each.file])) for each in written)


def _with_features(
    deam: Deam, extraction: ExtractionSettings, extract: Extract, console: Console
) -> tuple[Deam, dict[int, Features]]:
    """The features by song_id, and the folder with only the songs that have features and a labelled frame."""
    found, reasons = _extracted(deam, extract)
    features = dict(found)
    left_out = [
        Finding(song.song_id, _file(deam, song), reasons[song.song_id])
        for song in deam.songs
        if song.song_id in reasons
    ]
    without_audio = [song for song in deam.songs if song.audio is None]
    if without_audio and extraction == _DEAM_EXTRACTION:
        for song in track(without_audio, "Reading DEAM's own features", console=console):
            path = _file(deam, song)
            try:
                frame_start_s, values = read_features_csv(path)
            except DeamError as error:
                left_out.append(Finding(song.song_id, path, _without_name(str(error), path)))
            else:
                features[song.song_id] = Features(frame_start_s, values)
    else:
        reason = "no audio, and DEAM's own features are not the ones requested"
        left_out += [Finding(song.song_id, _file(deam, song), reason) for song in without_audio]
    for song in deam.songs:
        if song.song_id in features and not _aligned(song, features).labelled.any():
            left_out.append(Finding(song.song_id, _file(deam, song), "no annotation at the end of any frame"))
    gone = {entry.song_id for entry in left_out}
    used = tuple(song for song in deam.songs if song.song_id not in gone)
    deam = replace(deam, songs=used, left_out=(*deam.left_out, *left_out))
    if not used:
        raise DeamError(f"No song in {deam.root} can be used.\n{deam.summary()}")
    return deam, features


def _with_copies(deam: Deam, copy: int, extract: Extract) -> tuple[Deam, dict[int, Features]]:
    """The features of the songs' copies by song_id, and the folder with a note for each song without one."""
    copies, reasons = _extracted(deam, extract)
    notes = [
        Finding(song.song_id, _file(deam, song), f"no altered copy {copy}: {reasons.get(song.song_id, 'no audio')}")
        for song in deam.songs
        if song.song_id not in copies
    ]
    return replace(deam, notes=(*deam.notes, *notes)), copies


def _extracted(deam: Deam, extract: Extract) -> tuple[dict[int, Features], dict[int, str]]:
    """By song_id, the features of the songs with audio, or the reason for having none."""
    audio = {song.song_id: song.audio for song in deam.songs if song.audio is not None}
    extracted = extract(list(audio.values()))
    reasons = {failure.path: failure.reason for failure in extracted.failures}
    return (
        {song_id: extracted.features[path] for song_id, path in audio.items() if path in extracted.features},
        {song_id: _without_name(reasons[path], path) for song_id, path in audio.items() if path in reasons},
    )


def _aligned(song: Song, features: Mapping[int, Features]) -> SongSequence:
    of_song = features[song.song_id]
    return align(song, of_song.frame_start_s, of_song.values)


def _aligned_copy(song: Song, copy: Features) -> SongSequence:
    """Like `align`, frame by frame: at another speed, frames are not 0.5 s apart in the song's own time."""
    frames = [
        align(song, copy.frame_start_s[k : k + 1], copy.values[k : k + 1]) for k in range(len(copy.frame_start_s))
    ]
    return SongSequence(
        song.song_id,
        copy.values,
        labels=np.concatenate([frame.labels for frame in frames]),
        labelled=np.concatenate([frame.labelled for frame in frames]),
        end_s=np.concatenate([frame.end_s for frame in frames]),
    )


def _file(deam: Deam, song: Song) -> Path:
    """The file of a song's features."""
    return song.audio or song.features_csv or deam.root


def _without_name(reason: str, path: Path) -> str:
    """The reason without the file's name, so that the summary can group songs by reason."""
    return reason.removeprefix(str(path)).lstrip(":, ")


def _frames_in_words(sequences: Iterable[SongSequence]) -> str:
    counts = [(len(sequence.features), int(sequence.labelled.sum())) for sequence in sequences]
    n_frames, n_labelled = (sum(column) for column in zip(*counts, strict=True))
    return f"Their features: {n_frames:,} frames, {n_labelled:,} of them with a label."


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
