"""How long a new engine has to warm up until nobody notices that it takes over: what differs, by how old it is.

`python -m benchmarks.renewal`: an engine hears music from its beginning, others begin in the middle of it. Until an age
the first one's frames go to the shipped model, from then on the other's: how far its predictions are from those of the
first engine alone. And the same against an engine without end, whose deltas of the voice have become 0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.common import music_tape, options, page, progress, report, table
from realtime_mer.features.engine import ENGINE_RATE_HZ, FRAME_S, HOP_S, N_FEATURES, FeatureEngine
from realtime_mer.features.extraction import FrameExtractor, frame_names
from realtime_mer.features.gain import GainStage
from realtime_mer.models.checkpoint import Checkpoint, default_checkpoint_path, load_checkpoint
from realtime_mer.models.predictor import Predictor
from realtime_mer.types import FeatureFrame, FloatArray

AGES_S = (1.0, 5.0, 30.0, 60.0, 120.0, 180.0)
_BEGINNINGS_S = (60.0, 150.0)
_MUSIC_S = 400.0
_VOICE = ("F0final", "voicingFinal", "jitter", "shimmer", "logHNR")


@dataclass(frozen=True, slots=True)
class _Heard:
    """frames: of the first engine, descriptors included, shape (frames, n). younger: of engines that began at a frame,
    shape (frames left, 260). counted: which columns openSMILE divides by a count that grows."""

    frames: FloatArray
    younger: dict[int, FloatArray]
    counted: np.ndarray


def measure(music: Path, ages_s: Sequence[float] = AGES_S) -> str:
    """Measures, and returns the section of the report."""
    checkpoint = load_checkpoint(default_checkpoint_path())
    heard = _hear(music, checkpoint)
    alone = _predicted(checkpoint, heard.frames)
    without = heard.frames.copy()
    without[:, heard.counted] = 0.0
    endless = _predicted(checkpoint, without)
    rows = []
    for age_s in ages_s:
        age = round(age_s / HOP_S)
        others = np.flatnonzero(~heard.counted[:N_FEATURES])
        unlike = max(
            int((younger[age] != heard.frames[begins + age, :N_FEATURES])[others].sum())
            for begins, younger in heard.younger.items()
        )
        from_first = _distance(checkpoint, heard, heard.frames, alone, age)
        from_endless = _distance(checkpoint, heard, without, endless, age)
        rows.append((f"{age_s:g} s", str(unlike), f"{from_first:.4f}", f"{from_endless:.4f}"))
    moves = np.abs(np.diff(alone, axis=0)).mean()
    return page(
        "## Engine renewal",
        f"""Engines that begin {" and ".join(f"{s:g} s" for s in _BEGINNINGS_S)} into {_MUSIC_S:g} s of music, cut to
        cut, and take over at an age. Unlike: how many of the {N_FEATURES - int(heard.counted.sum())} values without a
        count in them, of the frame at that age, differ from the first engine's by a bit or more. Then the largest
        distance of a prediction (valence or arousal) afterwards: from those of the first engine alone, and from those
        of one without end, whose deltas of the voice are 0. From one prediction to the next they move by {moves:.4f}
        in the mean.""",
        table(("taken over at", "unlike", "from the first", "from one without end"), rows),
    )


def _hear(music: Path, checkpoint: Checkpoint) -> _Heard:
    with music_tape(music, _MUSIC_S) as tape:
        samples = soundfile.read(tape, dtype="float32", frames=round(_MUSIC_S * ENGINE_RATE_HZ))[0][:, 0].copy()
    settings = checkpoint.extraction
    progress("renewal: the first engine")
    extractor = FrameExtractor(settings, ENGINE_RATE_HZ)
    frames = np.stack([frame.values for frame in extractor.step(samples) + extractor.flush()])
    levelled = samples if settings.level is None else GainStage(settings.level, ENGINE_RATE_HZ).step(samples)
    younger = {}
    for begins_s in _BEGINNINGS_S:
        progress(f"renewal: one that begins at {begins_s:g} s")
        engine = FeatureEngine()
        engine.write(levelled[round(begins_s * ENGINE_RATE_HZ) :])
        younger[round(begins_s / HOP_S)] = np.stack([frame.values for frame in engine.finish()])
    counted = np.array([name.startswith(_VOICE) and "_de_" in name for name in frame_names(settings)])
    return _Heard(frames, younger, counted)


def _distance(checkpoint: Checkpoint, heard: _Heard, old: FloatArray, expected: FloatArray, age: int) -> float:
    """The largest of the predictions' from what is expected, where each younger engine takes over at that age."""
    largest = 0.0
    for begins, younger in heard.younger.items():
        frames = old.copy()
        n_frames = min(len(younger), len(frames) - begins)
        frames[begins + age : begins + n_frames, :N_FEATURES] = younger[age:n_frames]
        largest = max(largest, float(np.abs(_predicted(checkpoint, frames) - expected).max()))
    return largest


def _predicted(checkpoint: Checkpoint, frames: FloatArray) -> FloatArray:
    """Valence and arousal, shape (frames, 2)."""
    predictor = Predictor(checkpoint)
    predictions = [predictor.step(frame) for frame in _as_frames(frames)]
    return np.array([(one.valence, one.arousal) for one in predictions], dtype=np.float32)


def _as_frames(frames: FloatArray) -> Iterator[FeatureFrame]:
    for k, values in enumerate(frames):
        yield FeatureFrame(k, k * HOP_S, k * HOP_S + FRAME_S, values)


def main() -> int:
    """`python -m benchmarks.renewal`."""
    given = options(__doc__).parse_args()
    return report(lambda: measure(given.music))


if __name__ == "__main__":
    sys.exit(main())
