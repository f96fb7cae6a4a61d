"""Raw audio in, frames of features out: the steps before the model, the same live, for a file and in training."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from realtime_mer.features.conditioning import MonoMix, Resampler
from realtime_mer.features.descriptors import DescriptorStage, descriptor_names
from realtime_mer.features.descriptors.responsive import ResponsiveStage, responsive_names
from realtime_mer.features.engine import ENGINE_RATE_HZ, HOP_S, opensmile_names
from realtime_mer.features.gain import GainSettings, GainStage
from realtime_mer.features.renewal import RenewalSettings, RenewingEngine
from realtime_mer.sources.reading import AudioFileError, read_blocks
from realtime_mer.types import AudioBlock, FeatureFrame, FloatArray

# How long a stream must be for one frame of 1.0 s, rounded up: openSMILE's last descriptors reach past its end.
SHORTEST_STREAM_S = 1.05


@dataclass(frozen=True, slots=True)
class ExtractionSettings:
    """The settings that decide the features. They belong to the model.

    level: the gain stage, or None to take the input's level as it is (as DEAM's own features did).
    descriptors: the tonal, rhythm and timbre descriptors: of the last ten seconds (True), of the music since its last
        change ("responsive"), or none (False).
    opensmile: whether DEAM's 260 features are there. Without them there is no openSMILE engine and no wait for it.

    Raises ValueError if nothing is left to extract.
    """

    level: GainSettings | None = GainSettings()
    descriptors: bool | Literal["responsive"] = True
    opensmile: bool = True

    def __post_init__(self) -> None:
        if not self.descriptors and not self.opensmile:
            raise ValueError("Extraction settings need descriptors, openSMILE's features, or both.")

    @property
    def has_any_rate(self) -> bool:
        """Whether there can be more than two frames a second: openSMILE and DescriptorStage have no other rate."""
        return self.descriptors == "responsive" and not self.opensmile

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ExtractionSettings:
        """What `to_dict` gave. Raises TypeError, KeyError or ValueError for anything else."""
        level, descriptors = values["level"], values["descriptors"]
        # Checkpoints of 0.1.0 do not mention openSMILE: it was always there.
        opensmile = values.get("opensmile", True)
        known = isinstance(opensmile, bool) and (isinstance(descriptors, bool) or descriptors == "responsive")
        if set(values) - {"opensmile"} != {"level", "descriptors"} or not known:
            raise ValueError(
                'Extraction settings are level, descriptors (true, false or "responsive") and opensmile '
                f"(true or false), not {values}."
            )
        return cls(None if level is None else GainSettings(**level), descriptors, opensmile)


def frame_names(settings: ExtractionSettings) -> tuple[str, ...]:
    """The names of a frame's values, in order: DEAM's 260, then the descriptors, each if they are asked for."""
    described: tuple[str, ...] = ()
    if settings.descriptors:
        described = responsive_names() if settings.descriptors == "responsive" else descriptor_names()
    return (opensmile_names() if settings.opensmile else ()) + described


class FrameExtractor:
    """Blocks of any size, rate and channel count in, frames out, under the streaming contract.

    Mono mix, resampling to 44.1 kHz, gain stage, then openSMILE and the descriptors side by side; frame k of both
    covers stream time 0.5 k to 0.5 k + 1.0 s. Start a new stream with a new extractor; call `close` on one that is not
    flushed. Limits numpy's BLAS to one thread in the whole process.

    renewal: when a long stream gets a new openSMILE engine; None: the defaults of RenewalSettings. frame_rate_hz:
    frames a second; settings with `has_any_rate` allow those of ResponsiveStage, others only 2.

    Raises FeatureEngineError if openSMILE cannot be loaded, ValueError for a rate that is not possible.
    """

    def __init__(
        self,
        settings: ExtractionSettings,
        rate_in_hz: int,
        renewal: RenewalSettings | None = None,
        frame_rate_hz: float = 1.0 / HOP_S,
    ) -> None:
        if not settings.has_any_rate and frame_rate_hz != 1.0 / HOP_S:
            raise ValueError(f"With these settings there are 2 frames a second, not {frame_rate_hz}.")
        # The matrices are so small that more threads only wait for each other and take twice the CPU time.
        threadpool_limits(1, user_api="blas")
        self._mono = MonoMix(rate_in_hz)
        self._resampler = Resampler(rate_in_hz)
        self._gain = None if settings.level is None else GainStage(settings.level, ENGINE_RATE_HZ)
        self._descriptors: DescriptorStage | ResponsiveStage | None = None
        if settings.descriptors:
            responsive = settings.descriptors == "responsive"
            self._descriptors = ResponsiveStage(frame_rate_hz) if responsive else DescriptorStage()
        self._described: deque[FeatureFrame] = deque()
        self._engine = RenewingEngine(renewal) if settings.opensmile else None

    @property
    def gain_db(self) -> float:
        """The gain stage's gain, in dB; 0 without a gain stage, or before any music."""
        return 0.0 if self._gain is None else self._gain.gain_db

    @property
    def n_renewals(self) -> int:
        """How often openSMILE was renewed so far."""
        return 0 if self._engine is None else self._engine.n_renewals

    def wait(self, timeout_s: float) -> None:
        """Returns when openSMILE has a frame, or after `timeout_s`. Without openSMILE no frame comes by waiting."""
        if self._engine is None:
            time.sleep(timeout_s)
        else:
            self._engine.wait(timeout_s)

    def step(self, samples: FloatArray) -> list[FeatureFrame]:
        """Takes the stream's next samples, float32, shape (n_samples, n_channels) or (n_samples,).

        Returns the frames that are ready, without waiting for any. Raises FeatureEngineError if openSMILE has stopped.
        """
        self._process(self._resampler.step(self._mono.step(samples)))
        return self._joined([] if self._engine is None else self._engine.frames())

    def flush(self) -> list[FeatureFrame]:
        """Ends the stream and returns the remaining frames. An incomplete frame is left out."""
        self._process(self._resampler.flush())
        if self._gain is not None:
            self._extract(self._gain.flush())
        return self._joined([] if self._engine is None else self._engine.finish())

    def close(self) -> None:
        """Frees the engine at once and drops unfinished frames. Can be called twice."""
        if self._engine is not None:
            self._engine.close()

    def _process(self, mono: FloatArray) -> None:
        self._extract(mono if self._gain is None else self._gain.step(mono))

    def _extract(self, mono: FloatArray) -> None:
        # The descriptors first: when openSMILE has frame k, its descriptors are then there too.
        if self._descriptors is not None:
            self._described.extend(self._descriptors.step(mono))
        if self._engine is not None:
            self._engine.write(mono)

    def _joined(self, frames: list[FeatureFrame]) -> list[FeatureFrame]:
        if self._descriptors is None:
            return frames
        if self._engine is None:
            ready = list(self._described)
            self._described.clear()
            return ready
        joined = []
        for frame in frames:
            described = self._described.popleft()
            values = np.concatenate([frame.values, described.values])
            joined.append(FeatureFrame(frame.index, frame.start_s, frame.end_s, values, described.change))
        return joined


def too_short(path: Path) -> str:
    """The message for a file that is shorter than a frame."""
    return f"{path} is too short: the first prediction needs {SHORTEST_STREAM_S} s of audio."


def extract_stream(blocks: Iterator[AudioBlock], settings: ExtractionSettings) -> Iterator[FeatureFrame]:
    """The frames of a stream of blocks at one rate. Yields nothing for a stream shorter than SHORTEST_STREAM_S."""
    first = next(blocks, None)
    if first is None:
        return
    extractor = FrameExtractor(settings, first.rate_hz)
    try:
        yield from extractor.step(first.samples)
        for block in blocks:
            yield from extractor.step(block.samples)
        yield from extractor.flush()
    finally:
        extractor.close()


def extract_file(path: Path, settings: ExtractionSettings) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """All frames of an audio file: their starts in seconds, shape (frames,), and values, shape (frames, n).

    Raises AudioFileError for a file that is no audio or too short for a frame.
    """
    return stacked(extract_stream(read_blocks(path), settings), path)


def stacked(frames: Iterable[FeatureFrame], path: Path) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """A file's frames as arrays: their starts in seconds, shape (frames,), and values, shape (frames, n).

    Raises AudioFileError if there are none.
    """
    all_frames = list(frames)
    if not all_frames:
        raise AudioFileError(too_short(path))
    return np.array([frame.start_s for frame in all_frames]), np.stack([frame.values for frame in all_frames])


def describe_configuration(settings: ExtractionSettings) -> str:
    """Everything besides the audio that decides the features: settings, this package's code and its libraries.

    Runs with equal texts extract the same features, so a cache can use it as its key.
    """
    names = ("numpy", "scipy", "soxr", "soundfile", "av", "safetensors") + ("opensmile",) * settings.opensmile
    libraries = {name: version(name) for name in names}
    return json.dumps({"settings": settings.to_dict(), "libraries": libraries, "code": _code_digest()}, sort_keys=True)


@cache
def _code_digest() -> str:
    digest = hashlib.sha256()
    package = files("realtime_mer")
    folders = ("features", "features/descriptors", "features/opensmile")
    for name in ("types.py", "sources/grid.py", "sources/reading.py", "sources/ffmpeg.py", *folders):
        for path, content in _contents(package / name):
            digest.update(f"{path} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _contents(place: Traversable) -> Iterator[tuple[str, bytes]]:
    if place.is_file():
        yield place.name, place.read_bytes()
        return
    for child in sorted(place.iterdir(), key=lambda child: child.name):
        if child.name.endswith((".py", ".conf", ".inc", ".safetensors")):
            yield from _contents(child)
