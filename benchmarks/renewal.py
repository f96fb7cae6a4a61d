"""How long a new openSMILE engine has to warm up before it can take over, measured by the change in predictions.

`python -m benchmarks.renewal`: one engine processes music from its start, others start in the middle. From some age on
the other engine's frames go to the shipped model instead of the first one's. The predictions are compared with those of
the first engine alone, and with those of an engine that has run for ever, whose deltas of the voice are 0.
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
from realtime_mer.models.checkpoint import Checkpoint, load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.models.predictor import Predictor
from realtime_mer.types import FeatureFrame, FloatArray

AGES_S = (1.0, 5.0, 30.0, 60.0, 120.0, 180.0)
_BEGINNINGS_S = (60.0, 150.0)
_MUSIC_S = 400.0
_VOICE = ("F0final", "voicingFinal", "jitter", "shimmer", "logHNR")


@dataclass(frozen=True, slots=True)
class _Extracted:
    """frames: of the first engine with descriptors, shape (frames, n). younger: by start frame, the frames of an engine
    started there, shape (remaining frames, 260). counted: the columns that openSMILE divides by a growing count."""

    frames: FloatArray
    younger: dict[int, FloatArray]
    counted: np.ndarray


def measure(music: Path, ages_s: Sequence[float] = AGES_S) -> str:
    """Measures, and returns the section of the report."""
    checkpoint = load_checkpoint(default_checkpoint_path())
    extracted = _extract(music, checkpoint)
    alone = _predicted(checkpoint, extracted.frames)
    without = extracted.frames.copy()
    without[:, extracted.counted] = 0.0
    endless = _predicted(checkpoint, without)
    rows = []
    for age_s in ages_s:
        age = round(age_s / HOP_S)
        others = np.flatnonzero(~extracted.counted[:N_FEATURES])
        unlike = max(
            int((younger[age] != extracted.frames[begins + age, :N_FEATURES])[others].sum())
            for begins, younger in extracted.younger.items()
        )
        from_first = _distance(checkpoint, extracted, extracted.frames, alone, age)
        from_endless = _distance(checkpoint, extracted, without, endless, age)
        rows.append((f"{age_s:g} s", str(unlike), f"{from_first:.4f}", f"{from_endless:.4f}"))
    moves = np.abs(np.diff(alone, axis=0)).mean()
    return page(
        "## Engine renewal",
        f"""Engines that start {" and ".join(f"{s:g} s" for s in _BEGINNINGS_S)} into {_MUSIC_S:g} s of music, cut to
        cut, and take over at an age. Unlike: how many of the {N_FEATURES - int(extracted.counted.sum())} values that do
        not depend on a count differ from the first engine's, in the frame at that age. Then the largest difference of a
        prediction (valence or arousal) afterwards: from those of the first engine alone, and from those of an engine
        that has run for ever, whose deltas of the voice are 0. Consecutive predictions differ by {moves:.4f} in the
        mean.""",
        table(("taken over at", "unlike", "from the first", "from an endless one"), rows),
    )


def _extract(music: Path, checkpoint: Checkpoint) -> _Extracted:
    with music_tape(music, _MUSIC_S) as tape:
        samples = soundfile.read(tape, dtype="float32", frames=round(_MUSIC_S * ENGINE_RATE_HZ))[0][:, 0].copy()
    settings = checkpoint.extraction
    progress("renewal: the first engine")
    extractor = FrameExtractor(settings, ENGINE_RATE_HZ)
    frames = np.stack([frame.values for frame in extractor.step(samples) + extractor.flush()])
    levelled = samples if settings.level is None else GainStage(settings.level, ENGINE_RATE_HZ).step(samples)
    younger = {}
    for begins_s in _BEGINNINGS_S:
        progress(f"renewal: one that starts at {begins_s:g} s")
        engine = FeatureEngine()
        engine.write(levelled[round(begins_s * ENGINE_RATE_HZ) :])
        younger[round(begins_s / HOP_S)] = np.stack([frame.values for frame in engine.finish()])
    counted = np.array([name.startswith(_VOICE) and "_de_" in name for name in frame_names(settings)])
    return _Extracted(frames, younger, counted)


def _distance(checkpoint: Checkpoint, extracted: _Extracted, old: FloatArray, expected: FloatArray, age: int) -> float:
    """The largest difference of a prediction from those expected, if each younger engine takes over at that age."""
    largest = 0.0
    for begins, younger in extracted.younger.items():
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
