"""The obvious alternative: a rolling buffer of sound, extracted again every 0.5 s with openSMILE's Python interface.

    python -m benchmarks.rolling RESULT.json FRAMES BUFFER_S

Captures the default input in real time and writes the seconds from the capture of each frame's last sample to its
features, the median time of the two extractions, and the CPU time per second of sound.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import opensmile

from benchmarks.common import WARM_UP_FRAMES, BenchmarkError, Float64Array, capture_times, check_rate, frame_ends
from benchmarks.traced import record_captures
from realtime_mer.config import AudioSettings
from realtime_mer.features.conditioning import MonoMix
from realtime_mer.features.engine import ENGINE_RATE_HZ, FRAME_S, HOP_S, deam_name, opensmile_names
from realtime_mer.sources.device import DeviceSource
from realtime_mer.types import FloatArray

_ROW_S = 0.01
_REST_S = 0.005
_LEVELS = (opensmile.FeatureLevel.LowLevelDescriptors, opensmile.FeatureLevel.LowLevelDescriptors_Deltas)


class RollingExtractor:
    """DEAM's 260 features by `opensmile.Smile`: the 65 descriptors of ComParE_2016 and their 65 deltas.

    The interface gives one or the other, so each takes an extraction of its own. extractions_s: their durations.
    """

    def __init__(self) -> None:
        self.extractions_s: tuple[list[float], list[float]] = ([], [])
        self._smiles = [opensmile.Smile(opensmile.FeatureSet.ComParE_2016, level) for level in _LEVELS]
        column = {name: i for i, name in enumerate(opensmile_names())}
        self._columns = np.array(
            [
                column[deam_name(f"{name}_{statistic}")]
                for smile in self._smiles
                for statistic in ("amean", "stddev")
                for name in smile.feature_names
            ]
        )

    def frame(self, buffer: FloatArray) -> FloatArray:
        """The features of the buffer's last second. buffer: mono, 44.1 kHz, at least 1 s. Returns shape (260,)."""
        first_row = round((len(buffer) / ENGINE_RATE_HZ - FRAME_S) / _ROW_S)
        statistics = []
        for smile, extractions_s in zip(self._smiles, self.extractions_s, strict=True):
            began_s = time.monotonic()
            rows = smile.process_signal(buffer, ENGINE_RATE_HZ).to_numpy()[first_row:]
            extractions_s.append(time.monotonic() - began_s)
            statistics += [rows.mean(axis=0), rows.std(axis=0)]
        features = np.empty(len(self._columns), dtype=np.float32)
        features[self._columns] = np.concatenate(statistics)
        return features


def listen(n_frames: int, buffer_s: float) -> dict[str, list[float] | float]:
    """Extracts this many frames after a warm-up from the default input; returns the fields of latency._RollingLive."""
    captures = record_captures()
    extractor = RollingExtractor()
    mono = MonoMix(ENGINE_RATE_HZ)
    ends = frame_ends(range(WARM_UP_FRAMES + n_frames), ENGINE_RATE_HZ)
    kept_samples = round(buffer_s * ENGINE_RATE_HZ)
    buffer, n_captured = np.empty(0, dtype=np.float32), 0
    ready_s: list[float] = []
    cpu_s: list[float] = []
    with contextlib.closing(DeviceSource(AudioSettings())) as source:
        source.start()
        while len(ready_s) < len(ends):
            capture = source.read()
            if capture is None:
                time.sleep(_REST_S)
                continue
            if capture.segment or capture.dropped_samples:
                raise BenchmarkError("The rolling buffer does not keep up with real time on this machine.")
            buffer = np.concatenate([buffer, mono.step(capture.samples)])
            n_captured += len(capture.samples)
            while len(ready_s) < len(ends) and n_captured >= (end := ends[len(ready_s)]):
                until = len(buffer) - (n_captured - end)
                extractor.frame(buffer[max(until - kept_samples, 0) : until])
                ready_s.append(time.monotonic())
                cpu_s.append(time.process_time())
            # Enough for the next frame's buffer.
            buffer = buffer[-kept_samples - ENGINE_RATE_HZ :]
    trace = np.array(captures)
    check_rate(trace, ENGINE_RATE_HZ)
    latencies_s: Float64Array = (np.array(ready_s) - capture_times(trace, ends))[WARM_UP_FRAMES:]
    return {
        "latencies_s": latencies_s.tolist(),
        "extractions_s": [statistics.median(took_s[WARM_UP_FRAMES:]) for took_s in extractor.extractions_s],
        "cpu_s_per_s": (cpu_s[-1] - cpu_s[WARM_UP_FRAMES - 1]) / (n_frames * HOP_S),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(listen(int(sys.argv[2]), float(sys.argv[3]))), encoding="ascii")
