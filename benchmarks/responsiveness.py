"""How fast checkpoints follow the music: songs cut to cut, crossfaded and with breaks, through the live session.

`python -m benchmarks.responsiveness --deam PATH`; needs a prescribed split.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import butter, sosfilt

from realtime_mer.config import QuadrantSettings
from realtime_mer.features.engine import ENGINE_RATE_HZ
from realtime_mer.live.quadrant import QuadrantTracker
from realtime_mer.live.session import predict_file
from realtime_mer.models.checkpoint import Checkpoint, load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.types import FloatArray, Prediction
from train.deam import DeamError, Song, load_deam
from train.sequences import labels_at
from train.sets import mono_of

Float64Array = npt.NDArray[np.float64]

SET_SONGS = 60
_SET_SEED = 0
CROSSFADES_S = (0.5, 2.0, 8.0)
FRESH_S = 1.56
_HOP_S = 0.5
# Reaction: until this share of the way is made, over cuts whose way is at least so long.
_REACTED_SHARE, _LEAST_WAY = 0.8, 0.15
# Within-song deviations count from here on: before, the model still follows the cut.
_SETTLED_S = 3.0
_BREAK_START_S, _BREAK_S, _BREAK_DB = 6.0, 8.0, -15.0
_HIGH_PASS_HZ = 400.0
_LEAST_BREAK_SONG_S = 15.0
_FADED_SAMPLES = ENGINE_RATE_HZ // 50
_BANDS_S = ((0.0, 3.0), (3.0, 6.0), (6.0, 10.0))


@dataclass(frozen=True, eq=False)
class Followed:
    """The predictions for a set: rows are predictions.

    song: int (n,), which one is playing; since_s: (n,), since it began. predicted, label: (n, 2); a label is NaN if
    there is none. change: (n,), strength of reported changes. sd: (n, 2), the expected error; NaN if not calibrated.
    """

    song: npt.NDArray[np.int64]
    since_s: Float64Array
    predicted: Float64Array
    label: Float64Array
    change: Float64Array
    sd: Float64Array


@dataclass(frozen=True)
class SetAudio:
    """Songs in one stream. starts_s: when each takes over from the one before; audible_s: when each begins to sound."""

    songs: tuple[Song, ...]
    samples: FloatArray
    starts_s: tuple[float, ...]
    audible_s: tuple[float, ...]


def main() -> None:
    """Measures the checkpoints and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.responsiveness", description="How fast models follow.")
    parser.add_argument("--deam", type=Path, required=True, metavar="DIR", help="the folder of DEAM")
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=[default_checkpoint_path()], metavar="FILE")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the page of results")
    options = parser.parse_args()
    checkpoints = [(path.stem, load_checkpoint(path)) for path in options.checkpoint]
    clips, long = (
        [song for song in load_deam(options.deam, kind).songs if song.split == options.split and song.audio]
        for kind in ("clips", "long")
    )
    if len(clips) < 2:
        raise DeamError(f"A set needs two {options.split} songs with audio at least, of a prescribed split.")
    songs = chosen_set(clips)
    lines = [
        "# How fast the predictions follow the music",
        "",
        f"`python -m benchmarks.responsiveness --deam PATH --split {options.split}`, through the live session.",
        f"{len(songs)} {options.split} songs of ten seconds in random order as one stream. R² and other pairs:",
        "valence / arousal. Reaction: from the cut until 80 % of the way from the prediction before it to that at the",
        "song's end is made, over cuts whose way is at least .15. S.d. within a song: from 3 s after its beginning.",
        "The oracle has no frame in a song's first second.",
        "",
    ]
    for line in set_tables(checkpoints, songs):
        print(line, flush=True)
        lines.append(line)
    lines += ["", "Long stretches of songs, each by itself, without a cut, and with breaks from second 6 to 14:", ""]
    for line in stretch_tables(checkpoints, long):
        print(line, flush=True)
        lines.append(line)
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def chosen_set(songs: Sequence[Song]) -> tuple[Song, ...]:
    """SET_SONGS of the songs in random order, the same every time."""
    order = np.random.default_rng(_SET_SEED).permutation(len(songs))[:SET_SONGS]
    return tuple(songs[i] for i in order)


def crossfaded(songs: Sequence[Song], fade_s: float) -> SetAudio:
    """The songs' sound, each fading into the next at equal power over `fade_s`; 0: cut to cut.

    A song takes over in the middle of the fade. Songs lose half a fade's length at either end.
    """
    n_fade = round(fade_s * ENGINE_RATE_HZ)
    rise = np.sin(0.5 * np.pi * (np.arange(n_fade) + 0.5) / max(n_fade, 1)).astype(np.float32)
    samples: FloatArray = np.empty(0, dtype=np.float32)
    starts_s, audible_s = [], []
    for song in songs:
        assert song.audio is not None
        sound = mono_of(song.audio)
        overlap = n_fade if len(samples) else 0
        audible = len(samples) - overlap
        if overlap:
            samples[-overlap:] = samples[-overlap:] * rise[::-1] + sound[:overlap] * rise
        samples = np.concatenate([samples, sound[overlap:]])
        audible_s.append(audible / ENGINE_RATE_HZ)
        starts_s.append((audible + overlap / 2) / ENGINE_RATE_HZ)
    return SetAudio(tuple(songs), samples, tuple(starts_s), tuple(audible_s))


def followed(audio: SetAudio, predictions: Sequence[Prediction]) -> Followed:
    """Each prediction with the song that plays, and the label at its time in that song."""
    time_s = np.array([p.time_s for p in predictions])
    # A frame that ends with a song is that song's.
    song = np.maximum(np.searchsorted(audio.starts_s, time_s - 1e-6, side="right") - 1, 0)
    label = np.full((len(time_s), 2), np.nan)
    for i, each in enumerate(audio.songs):
        rows = np.flatnonzero(song == i)
        at_s = each.audio_start_s + time_s[rows] - audio.audible_s[i]
        found, labelled = labels_at(at_s, each.label_times_s, each.labels)
        label[rows[labelled]] = found[labelled]
    return Followed(
        song,
        time_s - np.array(audio.starts_s)[song],
        np.array([(p.valence, p.arousal) for p in predictions]),
        label,
        np.array([p.change for p in predictions]),
        np.array([(p.valence_sd or np.nan, p.arousal_sd or np.nan) for p in predictions]),
    )


def live(checkpoint: Checkpoint, audio: SetAudio) -> Followed:
    """What a live session predicts for the set."""
    return followed(audio, predicted(checkpoint, audio.samples))


def fresh(checkpoint: Checkpoint, audio: SetAudio) -> Followed:
    """What a new session predicts at every frame for the last FRESH_S alone."""
    predictions = []
    for end in np.arange(_HOP_S * np.ceil(FRESH_S / _HOP_S), len(audio.samples) / ENGINE_RATE_HZ, _HOP_S):
        stop = round(end * ENGINE_RATE_HZ)
        last = predicted(checkpoint, audio.samples[stop - round(FRESH_S * ENGINE_RATE_HZ) : stop])[-1]
        predictions.append(Prediction(float(end), last.valence, last.arousal))
    return followed(audio, predictions)


def oracle(checkpoint: Checkpoint, audio: SetAudio) -> Followed:
    """What a new session from each cut on predicts. Has no frame in a song's first second."""
    predictions = []
    bounds = [*audio.starts_s, len(audio.samples) / ENGINE_RATE_HZ]
    for start_s, end_s in pairwise(bounds):
        part = audio.samples[round(start_s * ENGINE_RATE_HZ) : round(end_s * ENGINE_RATE_HZ)]
        for p in predicted(checkpoint, part):
            predictions.append(Prediction(start_s + p.time_s, p.valence, p.arousal, p.valence_sd, p.arousal_sd))
    return followed(audio, predictions)


def predicted(checkpoint: Checkpoint, samples: FloatArray) -> list[Prediction]:
    """A session's predictions for mono samples at 44.1 kHz, as a 16-bit file would hold them."""
    with tempfile.TemporaryDirectory(prefix="realtime-mer-") as folder:
        file = Path(folder) / "set.flac"
        soundfile.write(file, np.clip(samples, -1.0, 1.0), ENGINE_RATE_HZ, subtype="PCM_16", format="FLAC")
        return predict_file(file, checkpoint)


def r2(found: Followed, first_s: float = -np.inf, last_s: float = np.inf) -> tuple[float, float]:
    """R² of valence and arousal over the labelled predictions after first_s, up to last_s, since a song began."""
    rows = ~np.isnan(found.label[:, 0]) & (found.since_s > first_s) & (found.since_s <= last_s)
    label, error = found.label[rows], found.predicted[rows] - found.label[rows]
    values = 1.0 - np.square(error).sum(axis=0) / np.square(label - label.mean(axis=0)).sum(axis=0)
    return float(values[0]), float(values[1])


def reaction_s(found: Followed) -> Float64Array:
    """For each cut whose way is long enough: when 80 % of the way to the prediction at the song's end is made."""
    times = []
    for song in range(1, int(found.song.max()) + 1):
        rows = np.flatnonzero(found.song == song)
        if not len(rows) or rows[0] == 0:
            continue
        before, way = found.predicted[rows[0] - 1], found.predicted[rows[-1]] - found.predicted[rows[0] - 1]
        length = float(np.linalg.norm(way))
        if length < _LEAST_WAY:
            continue
        share = (found.predicted[rows] - before) @ way / length**2
        times.append(found.since_s[rows[np.argmax(share >= _REACTED_SHARE)]])
    return np.array(times)


def within_song_sd(found: Followed) -> tuple[float, float]:
    """The predictions' s.d. inside a song, from three seconds after its beginning; mean over songs."""
    deviations = [
        found.predicted[rows].std(axis=0)
        for song in np.unique(found.song)
        if (rows := (found.song == song) & (found.since_s > _SETTLED_S)).sum() > 1
    ]
    mean = np.mean(deviations, axis=0)
    return float(mean[0]), float(mean[1])


def standardised(found: Followed, first_s: float, last_s: float) -> tuple[float, float]:
    """Root mean square of error over expected error; 1 is right."""
    rows = ~np.isnan(found.label[:, 0]) & (found.since_s > first_s) & (found.since_s <= last_s)
    ratio = (found.predicted[rows] - found.label[rows]) / found.sd[rows]
    value = np.sqrt(np.square(ratio).mean(axis=0))
    return float(value[0]), float(value[1])


def quiet_break(samples: FloatArray) -> FloatArray:
    """The sound with eight seconds at -15 dB in it, faded over 20 ms."""
    gain = np.ones(len(samples), dtype=np.float32)
    first, last = (round(s * ENGINE_RATE_HZ) for s in (_BREAK_START_S, _BREAK_START_S + _BREAK_S))
    low = np.float32(10.0 ** (_BREAK_DB / 20.0))
    gain[first:last] = low
    ramp = np.linspace(1.0, low, _FADED_SAMPLES, dtype=np.float32)
    gain[first : first + _FADED_SAMPLES] = ramp
    end = gain[last : last + _FADED_SAMPLES]
    end[:] = ramp[::-1][: len(end)]
    return samples * gain


def opening_high_pass(samples: FloatArray) -> FloatArray:
    """The sound with eight seconds in which a high-pass at 400 Hz opens: it fades into the whole sound."""
    filtered = sosfilt(butter(4, _HIGH_PASS_HZ, "highpass", fs=ENGINE_RATE_HZ, output="sos"), samples)
    share = np.zeros(len(samples))
    first, last = (round(s * ENGINE_RATE_HZ) for s in (_BREAK_START_S, _BREAK_START_S + _BREAK_S))
    share[first:last] = np.linspace(1.0, 0.0, last - first)[: len(share[first:last])]
    return np.asarray(share * filtered + (1.0 - share) * samples, dtype=np.float32)


def stretches(
    checkpoint: Checkpoint, songs: Sequence[Song], change: Callable[[FloatArray], FloatArray] | None = None
) -> Followed:
    """What sessions predict for long stretches of songs, each in one of its own; with `change` done to the sound."""
    parts = []
    for i, song in enumerate(songs):
        assert song.audio is not None
        sound = mono_of(song.audio)
        audio = SetAudio((song,), sound, (0.0,), (0.0,))
        part = followed(audio, predicted(checkpoint, sound if change is None else change(sound)))
        parts.append((np.full_like(part.song, i), part.since_s, part.predicted, part.label, part.change, part.sd))
    return Followed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def changes_per_minute(found: Followed) -> float:
    """Reported changes per minute of sound."""
    return float(np.count_nonzero(found.change) / (len(found.change) * _HOP_S / 60.0))


def quadrant_events_per_minute(found: Followed) -> float:
    """How often the quadrant changes, split at 0 with the default hysteresis and dwell time."""
    events = 0
    for song in np.unique(found.song):
        settings = QuadrantSettings()
        tracker, before = QuadrantTracker(settings.hysteresis, settings.dwell_s), 0
        rows = np.flatnonzero(found.song == song)
        for row in rows:
            valence, arousal = found.predicted[row].tolist()
            now = tracker.step(valence, arousal, float(found.since_s[row]))
            events += before not in (0, now)
            before = now
    return events / (len(found.song) * _HOP_S / 60.0)


def set_row(name: str, found: Followed) -> str:
    """A row of `SET_HEAD`."""
    reaction = reaction_s(found)
    cells = [name, _pair(r2(found)), *(_pair(r2(found, *band)) for band in _BANDS_S)]
    # In long crossfades no way may be long enough.
    times = f"{np.median(reaction):.2f} / {np.percentile(reaction, 90):.2f} ({len(reaction)})" if len(reaction) else "–"
    cells.append(times)
    cells.append("{:.3f} / {:.3f}".format(*within_song_sd(found)))
    calibrated = not np.isnan(found.sd).all()
    cells.append("{:.2f} / {:.2f}".format(*standardised(found, 0.0, 3.0)) if calibrated else "–")
    return "| " + " | ".join(cells) + " |"


SET_HEAD = (
    "| | R², all | 0-3 s | 3-6 s | 6-10 s | reaction, s: median / p90 (cuts) | s.d. within a song | errors / expected, "
    "0-3 s |\n|---|---|---|---|---|---|---|---|"
)


def set_tables(checkpoints: Sequence[tuple[str, Checkpoint]], songs: Sequence[Song]) -> Iterator[str]:
    """The lines of the table of sets."""
    yield SET_HEAD
    plain = crossfaded(songs, 0.0)
    for name, checkpoint in checkpoints:
        yield set_row(f"{name}, cut to cut", live(checkpoint, plain))
        yield set_row(f"{name}, new at every cut (oracle)", oracle(checkpoint, plain))
        yield set_row(f"{name}, new at every frame, last {FRESH_S} s", fresh(checkpoint, plain))
        for fade_s in CROSSFADES_S:
            yield set_row(f"{name}, crossfades of {fade_s:g} s", live(checkpoint, crossfaded(songs, fade_s)))


STRETCH_HEAD = (
    "| | R², all | 0-10 s | 10-20 s | 20-30 s | s.d. within a song | changes / min | quadrant events / min |\n"
    "|---|---|---|---|---|---|---|---|"
)


def stretch_tables(checkpoints: Sequence[tuple[str, Checkpoint]], songs: Sequence[Song]) -> Iterator[str]:
    """The lines of the table of long stretches, without and with breaks."""
    long = [song for song in songs if song.audio and soundfile.info(song.audio).duration >= _LEAST_BREAK_SONG_S]
    yield STRETCH_HEAD
    for name, checkpoint in checkpoints:
        for what, change in (
            ("uncut", None),
            (f"{_BREAK_S:g} s at {_BREAK_DB:g} dB", quiet_break),
            (f"{_BREAK_S:g} s of a high-pass that opens", opening_high_pass),
        ):
            found = stretches(checkpoint, long, change)
            cells = [f"{name}, {what}", _pair(r2(found))]
            cells += [_pair(r2(found, low, high)) for low, high in ((0, 10), (10, 20), (20, 30))]
            cells.append("{:.3f} / {:.3f}".format(*within_song_sd(found)))
            cells += [f"{changes_per_minute(found):.1f}", f"{quadrant_events_per_minute(found):.1f}"]
            yield "| " + " | ".join(cells) + " |"


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.3f} / {values[1]:.3f}"


if __name__ == "__main__":
    main()
