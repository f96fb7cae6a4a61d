"""From sound to OSC: how late a prediction is, beside a rolling buffer that is extracted anew every 0.5 s."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import (
    WARM_UP_FRAMES,
    WARM_UP_S,
    Float64Array,
    OscReceiver,
    at_least,
    capture_times,
    check_rate,
    frame_ends,
    in_ms,
    music_tape,
    options,
    page,
    progress,
    report,
    running,
    sound,
    table,
)
from benchmarks.rolling import RollingExtractor
from realtime_mer.features.conditioning import MonoMix
from realtime_mer.features.engine import (
    ENGINE_RATE_HZ,
    FRAME_S,
    HOP_S,
    N_FEATURES,
    FeatureEngine,
    opensmile_names,
    to_int16,
)
from realtime_mer.features.extraction import ExtractionSettings, extract_stream
from realtime_mer.features.gain import GainStage
from realtime_mer.models.checkpoint import Checkpoint, default_checkpoint_path, load_checkpoint
from realtime_mer.models.predictor import Predictor
from realtime_mer.sources.reading import read_blocks
from realtime_mer.types import AudioBlock, FeatureFrame, FloatArray

DEFAULT_SECONDS = 90.0
DEFAULT_BUFFER_S = 2.0
# What most sound cards run at, besides openSMILE's own rate.
_RESAMPLED_RATE_HZ = 48_000
_BLOCK_SAMPLES = 441
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, eq=False)
class _Live:
    """latencies_s: shape (n_frames,). cpu_s_per_s: CPU time for a second of sound."""

    latencies_s: Float64Array
    cpu_s_per_s: float


@dataclass(frozen=True, eq=False)
class _RollingLive(_Live):
    """extractions_s: the median time for a buffer's descriptors, and for their deltas."""

    extractions_s: tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Comparison:
    """The rolling buffer's features against the continuous ones, of the same sound.

    strays: mean absolute difference of each, in its standard deviations, shape (260,). strays_at_once: the same for
    `opensmile.Smile` over the whole sound at once. moved: absolute differences of the model's predictions, (frames, 2).
    cpu_s_per_s: CPU time for a second of sound.
    """

    strays: Float64Array
    strays_at_once: Float64Array
    moved: Float64Array
    continuous_cpu_s_per_s: float
    rolling_cpu_s_per_s: float


def measure(music: Path, seconds: float = DEFAULT_SECONDS, buffer_s: float = DEFAULT_BUFFER_S) -> str:
    """Measures, and returns the section of the report."""
    n_frames = round(seconds / HOP_S)
    with music_tape(music, _START_TIMEOUT_S + WARM_UP_S + seconds) as tape:
        progress(f"latency: the live command, {WARM_UP_S + seconds:.0f} s of music in real time")
        ours = _live(tape, n_frames, ENGINE_RATE_HZ)
        progress(f"latency: the same from a sound card at {_RESAMPLED_RATE_HZ} Hz")
        resampled = _live(tape, n_frames, _RESAMPLED_RATE_HZ)
        progress("latency: the rolling buffer, the same music in real time")
        rolling = _live_rolling(tape, n_frames, buffer_s)
        progress("latency: the features of both, as fast as possible")
        features = _compare_features(tape, seconds, buffer_s)
    return page(
        "## From sound to OSC",
        *_told_of_time(ours, resampled, rolling, features, seconds, buffer_s),
        *_told_of(features),
    )


def _told_of_time(
    ours: _Live, resampled: _Live, rolling: _RollingLive, features: _Comparison, seconds: float, buffer_s: float
) -> tuple[str, ...]:
    ratio = np.percentile(ours.latencies_s, 95) / np.percentile(rolling.latencies_s, 95)
    descriptors_ms, deltas_ms = (1000 * seconds for seconds in rolling.extractions_s)
    return (
        f"""From the capture of a frame's last sample (the PortAudio callback that brought it) to the arrival of its OSC
        packet in another process; {len(ours.latencies_s)} predictions in real time, after {WARM_UP_S:.0f} s; no sound
        dropped, no prediction missing. What the sound server and the driver hold back before the callback is not in it.
        The rolling buffer is the obvious alternative: every 0.5 s the last {buffer_s:g} s are extracted anew with
        `opensmile.Smile` (ComParE_2016, descriptors and deltas); mean and standard deviation over the last second are
        DEAM's 260 features. Its latency ends when they are there: without descriptors, model and OSC. Measured one
        after the other, on the same music.""",
        table(
            ("latency, ms", "p50", "p95", "p99", "max"),
            [
                ("realtime-mer, to the OSC packet", *in_ms(ours.latencies_s)),
                (f"the same, sound card at {_RESAMPLED_RATE_HZ} Hz (resampled)", *in_ms(resampled.latencies_s)),
                ("rolling buffer, to the features", *in_ms(rolling.latencies_s)),
            ],
        ),
        f"""At p95 realtime-mer takes {ratio:.2f} times as long as the rolling buffer. The one engine's pitch smoother
        waits for sound past the frame's end; a new extraction does not, but has to compute: {descriptors_ms:.0f} ms in
        the median for the descriptors and {deltas_ms:.0f} ms for the deltas, since the Python interface gives one or
        the other. With a configuration of one's own, one extraction could give both.""",
        table(
            ("CPU time for a second of sound, ms", "realtime-mer", "rolling buffer", "ratio"),
            [
                _compared("live, the whole process", ours.cpu_s_per_s, rolling.cpu_s_per_s),
                _compared("DEAM's 260 features alone", features.continuous_cpu_s_per_s, features.rolling_cpu_s_per_s),
            ],
        ),
        f"""Live, realtime-mer's process also computes 452 descriptors, the model and OSC, and watches the device; the
        rolling buffer's does none of that. The features alone: as fast as possible, in one process, one after the
        other, from the same {seconds:.0f} s of levelled sound.""",
    )


def _told_of(features: _Comparison) -> tuple[str, ...]:
    strays, at_once, moved = features.strays, features.strays_at_once, features.moved
    return (
        f"""How far the rolling buffer's features stray from the continuous ones (mean absolute difference over
        {len(moved)} frames, in standard deviations of the feature over this music): median over the 260 features
        {np.median(strays):.3f}, 95th percentile {np.percentile(strays, 95):.3f}. With `opensmile.Smile` over the whole
        sound at once: median {np.median(at_once):.6f}, 95th percentile {np.percentile(at_once, 95):.3f}; that part is
        not the buffer's doing, but ComParE_2016's: its voice features are not quite those of DEAM's IS13_ComParE. The
        five worst:""",
        table(
            ("feature", "rolling buffer", "whole sound at once"),
            [(opensmile_names()[i], f"{strays[i]:.2f}", f"{at_once[i]:.2f}") for i in np.argsort(-strays)[:5]],
        ),
        f"""The shipped model, given the rolling buffer's features and the descriptors as they are, moves by
        {moved[:, 0].mean():.3f} in valence and {moved[:, 1].mean():.3f} in arousal in the mean, and by
        {moved[:, 0].max():.3f} and {moved[:, 1].max():.3f} at most (its scale: -1 to 1).""",
    )


def _compared(what: str, ours_s: float, theirs_s: float) -> tuple[str, str, str, str]:
    return what, f"{1000 * ours_s:.0f}", f"{1000 * theirs_s:.0f}", f"{ours_s / theirs_s:.2f}"


def _live(tape: Path, n_frames: int, rate_hz: int) -> _Live:
    """The live command, with a note of when what was captured; its OSC comes here."""
    n_all = WARM_UP_FRAMES + n_frames
    with (
        tempfile.TemporaryDirectory(prefix="benchmark") as folder,
        contextlib.closing(OscReceiver()) as receiver,
        sound(tape, rate_hz) as environment,
    ):
        noted = Path(folder) / "captures.npy"
        command = ["-m", "benchmarks.traced", str(noted), "--device", "default", "--no-plot", "--no-terminal"]
        with running([*command, "--osc", receiver.target], environment) as process:
            receiver.wait_for(WARM_UP_FRAMES, _START_TIMEOUT_S)
            cpu_before_s = process.cpu_s()
            receiver.wait_for(n_all, n_all * HOP_S + _START_TIMEOUT_S)
            cpu_s = process.cpu_s() - cpu_before_s
        receiver.check_complete()
        captures = np.load(noted)
    check_rate(captures, rate_hz)
    arrived_s = np.array([arrival.arrived_s for arrival in receiver.arrivals[:n_all]])
    latencies_s = arrived_s - capture_times(captures, frame_ends(range(n_all), rate_hz))
    return _Live(latencies_s[WARM_UP_FRAMES:], cpu_s / (n_frames * HOP_S))


def _live_rolling(tape: Path, n_frames: int, buffer_s: float) -> _RollingLive:
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder, sound(tape) as environment:
        result = Path(folder) / "result.json"
        with running(["-m", "benchmarks.rolling", str(result), str(n_frames), str(buffer_s)], environment) as process:
            process.wait(2 * _START_TIMEOUT_S + WARM_UP_S + n_frames * HOP_S)
        told = json.loads(result.read_text(encoding="ascii"))
    return _RollingLive(np.array(told["latencies_s"]), told["cpu_s_per_s"], tuple(told["extractions_s"]))


def _compare_features(tape: Path, seconds: float, buffer_s: float) -> _Comparison:
    checkpoint = load_checkpoint(default_checkpoint_path())
    mono = np.concatenate([MonoMix(block.rate_hz).step(block.samples) for block in read_blocks(tape)])
    mono = mono[: round(seconds * ENGINE_RATE_HZ)]
    samples = _levelled(mono, checkpoint.extraction)
    sound_s = len(samples) / ENGINE_RATE_HZ

    before_s = time.process_time()
    continuous = _continuous(samples)
    continuous_cpu_s = time.process_time() - before_s
    extractor = RollingExtractor()
    before_s = time.process_time()
    rolling = _rolling(extractor, samples, buffer_s, len(continuous))
    rolling_cpu_s = time.process_time() - before_s

    at_once = extractor.frames(samples)[: len(continuous)]
    block = AudioBlock(mono, 0.0, ENGINE_RATE_HZ)
    frames = np.stack([frame.values for frame in extract_stream(iter([block]), checkpoint.extraction)])
    instead = np.concatenate([rolling, frames[:, N_FEATURES:]], axis=1)
    return _Comparison(
        strays=strays(rolling, continuous),
        strays_at_once=strays(at_once, continuous[: len(at_once)]),
        moved=np.abs(_predictions(checkpoint, frames) - _predictions(checkpoint, instead)),
        continuous_cpu_s_per_s=continuous_cpu_s / sound_s,
        rolling_cpu_s_per_s=rolling_cpu_s / sound_s,
    )


def _levelled(mono: FloatArray, settings: ExtractionSettings) -> FloatArray:
    """What openSMILE gets to hear: behind the level stage, on the grid of 16 bits."""
    if settings.level is not None:
        stage = GainStage(settings.level, ENGINE_RATE_HZ)
        mono = np.concatenate([stage.step(mono), stage.flush()])
    # opensmile.Smile cuts off where we round, which alone would move jitter and shimmer.
    return to_int16(mono).astype(np.float32) / np.float32(32768.0)


def _continuous(samples: FloatArray) -> FloatArray:
    """The 260 features of every frame from the one engine, given the blocks that a sound card would give."""
    engine = FeatureEngine()
    frames: list[FeatureFrame] = []
    for start in range(0, len(samples), _BLOCK_SAMPLES):
        engine.write(samples[start : start + _BLOCK_SAMPLES])
        frames += engine.frames()
    return np.stack([frame.values for frame in [*frames, *engine.finish()]])


def _rolling(extractor: RollingExtractor, samples: FloatArray, buffer_s: float, n_frames: int) -> FloatArray:
    """The 260 features of the same frames, each from a buffer that ends where the frame ends."""
    kept_samples = round(buffer_s * ENGINE_RATE_HZ)
    ends = frame_ends(range(n_frames), ENGINE_RATE_HZ)
    return np.stack([extractor.frame(samples[max(end - kept_samples, 0) : end]) for end in ends])


def strays(values: FloatArray, reference: FloatArray) -> Float64Array:
    """Mean absolute difference of each feature, in its standard deviations over the reference. Shape (n_features,)."""
    difference = np.abs(values.astype(np.float64) - reference).mean(axis=0)
    deviation = reference.astype(np.float64).std(axis=0)
    in_deviations: Float64Array = np.divide(difference, deviation, out=np.zeros_like(difference), where=deviation > 0)
    return in_deviations


def _predictions(checkpoint: Checkpoint, frames: FloatArray) -> Float64Array:
    predictor = Predictor(checkpoint)
    starts_s = np.arange(len(frames)) * HOP_S
    stream = [FeatureFrame(i, start_s, start_s + FRAME_S, frames[i]) for i, start_s in enumerate(starts_s)]
    return np.array([(said.valence, said.arousal) for said in map(predictor.step, stream)])


def main() -> int:
    """`python -m benchmarks.latency`."""
    parser = options(__doc__)
    parser.add_argument(
        "--seconds", type=at_least(10), default=DEFAULT_SECONDS, help="how much music, for each of the three"
    )
    parser.add_argument(
        "--buffer", type=at_least(1), default=DEFAULT_BUFFER_S, metavar="S", help="the rolling buffer's length"
    )
    given = parser.parse_args()
    return report(lambda: measure(given.music, given.seconds, given.buffer))


if __name__ == "__main__":
    sys.exit(main())
