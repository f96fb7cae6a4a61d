"""DEAM's 260 features from a stream: one incremental openSMILE engine, blocks in, frames out.

Per frame: the 65 IS13-ComParE low-level descriptors and their 65 deltas, standard deviation and mean of each, over
1.0 s, every 0.5 s (Weninger et al., "On the acoustics of emotion in audio", Frontiers in Psychology 2013; names and
order as DEAM writes them). openSMILE runs in a thread of its own, since its `run()` blocks.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import math
import platform
import threading
from collections import deque
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from realtime_mer.errors import RealtimeMerError
from realtime_mer.types import FeatureFrame, FloatArray

ENGINE_RATE_HZ = 44_100
FRAME_S = 1.0
HOP_S = 0.5
N_FEATURES = 260
# How much sound past a frame's end openSMILE may need before it gives the frame: the pitch smoother holds back up to 30
# descriptors of 10 ms until its candidates agree (measured: 0.09 to 0.20 s, 0.10 in the median). At the end of a stream
# 0.05 s are enough (60 ms windows, smoothing, deltas); a stream that stops earlier has no such frame.
LATENCY_S = 0.3

_WITHOUT = "use the model that does not need it: --model open"
_SOURCE = "source"
_SINK = "sink"
_QUIET_LOG_LEVEL = 0
# How long to wait for room or a frame before checking the engine again, and after how many such waits without room an
# engine counts as stuck (20 s; it processes a second of audio in 50 ms).
POLL_S = 0.05
MAX_POLLS = 400


class FeatureEngineError(RealtimeMerError, RuntimeError):
    """openSMILE cannot be loaded on this platform, or stopped working."""


def to_int16(samples: FloatArray) -> npt.NDArray[np.int16]:
    """Full-scale floats as 16-bit PCM: +1.0 and above become 32767, -1.0 and below -32768, NaN becomes 0.

    samples: float32 of any shape. Returns int16 of the same shape.
    """
    scaled = np.rint(np.clip(np.nan_to_num(samples, nan=0.0), -1.0, 1.0) * 32768.0)
    return np.asarray(np.minimum(scaled, 32767), dtype=np.int16)


def deam_name(opensmile_name: str) -> str:
    """The name that DEAM gives a feature: today's include drops the prefix of the cepstral coefficients."""
    return "pcm_fftMag_" + opensmile_name if opensmile_name.startswith("mfcc_") else opensmile_name


@cache
def _load_opensmile() -> tuple[ModuleType, Path]:
    """openSMILE's C interface and its folder of configurations.

    The module is loaded from its file, without `opensmile/__init__`, which imports pandas and more: half a second less
    before the first captured sample.
    """
    spec = importlib.util.find_spec("opensmile")
    if spec is None or not spec.submodule_search_locations:
        raise FeatureEngineError(
            f"The Python package opensmile is missing. Install it (pip install opensmile), or {_WITHOUT}"
        )
    core = Path(next(iter(spec.submodule_search_locations))) / "core"
    lib_spec = importlib.util.spec_from_file_location("realtime_mer._opensmile_lib", core / "lib.py")
    if lib_spec is None or lib_spec.loader is None:
        raise FeatureEngineError(f"The package opensmile in {core} is damaged: no core/lib.py. Reinstall it.")
    module = importlib.util.module_from_spec(lib_spec)
    try:
        lib_spec.loader.exec_module(module)
    except (OSError, RuntimeError) as error:
        raise FeatureEngineError(
            f"openSMILE's library cannot be loaded on this platform ({platform.system()} {platform.machine()}): "
            f"{error}. The package opensmile ships it for Linux (x86-64, Arm), macOS and Windows (x86-64); "
            f"on another platform, {_WITHOUT}"
        ) from error
    return module, core / "config"


@cache
def opensmile_names() -> tuple[str, ...]:
    """The names of the 260 features, DEAM's, in the order of a frame's values; asked of openSMILE, once."""
    engine = FeatureEngine()
    engine.close()
    return engine.names


class FeatureEngine:
    """An openSMILE instance that takes mono audio at 44.1 kHz block by block and returns DEAM's frames.

    `write` never drops a sample: if openSMILE's ten-second buffer is full, it waits for room. `frames` returns the
    frames in order, as soon as openSMILE has them (100 ms after a frame's end in the median, in real time).
    Not thread-safe: one thread writes and reads. Use a new engine for a new stream. openSMILE's own counters are C
    longs, which have 32 bits on Windows: streams of more than 13 hours need a RenewingEngine (renewal.py).

    Raises FeatureEngineError if openSMILE cannot be loaded or fails.
    """

    rate_hz = 1.0 / HOP_S
    latency_s = LATENCY_S
    # RASTA filters and the pitch smoother have infinite memory: frames a second after a change still differ by up to
    # 0.02 standard deviations, six seconds after by 0.005.
    receptive_field_s = math.inf

    def __init__(self) -> None:
        lib, package_configs = _load_opensmile()
        self._smile: Any = lib.OpenSMILE()
        self._finished_frames: deque[FeatureFrame] = deque()
        self._arrived = threading.Condition()
        self._failure: Exception | None = None
        self._next_index = 0
        self._names: tuple[str, ...] = ()
        self._freeing = threading.Lock()
        with as_file(files("realtime_mer.features") / "opensmile") as own_configs:
            rings = str(own_configs / "rings.inc")
            options = {
                "descriptors": str(package_configs / "is09-13" / "IS13_ComParE_core.lld.conf.inc"),
                "bufferModeRbConf": rings,
                "bufferModeRbLagConf": rings,
                "bufferModeConf": rings,
            }
            try:
                self._smile.initialize(str(own_configs / "deam260.conf"), options, loglevel=_QUIET_LOG_LEVEL)
            except UnicodeEncodeError as error:
                raise FeatureEngineError(
                    f"openSMILE takes only ASCII paths, but this package lies in {own_configs}. Install it elsewhere."
                ) from error
            except lib.OpenSmileException as error:
                raise FeatureEngineError(f"openSMILE refused its configuration: {error}") from error
        self._smile.external_sink_set_callback_ex(_SINK, self._on_frame)
        self._names = tuple(
            deam_name(self._smile.external_sink_get_element_name(_SINK, i))
            for i in range(self._smile.external_sink_get_num_elements(_SINK))
        )
        self._thread = threading.Thread(target=self._run, name="opensmile", daemon=True)
        self._thread.start()
        # At the interpreter's exit, a thread still inside openSMILE would crash the process.
        atexit.register(self._leave)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the 260 features, DEAM's, in the order of a frame's values."""
        return self._names

    def write(self, samples: FloatArray) -> None:
        """Takes the stream's next samples: float32, mono, shape (n_samples,), full scale at -1 and 1.

        Raises ValueError for another shape, for samples that are not floats, and after `finish` or `close`;
        FeatureEngineError if openSMILE fails or is stuck.
        """
        if self._smile is None:
            raise ValueError("This engine's stream has ended; a new stream needs a new FeatureEngine.")
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise ValueError(f"Expected mono floats, shape (samples,), got {samples.dtype} of shape {samples.shape}.")
        pcm = to_int16(samples)
        # A tenth of openSMILE's buffer at a time: a larger piece may not fit behind unread samples.
        for start in range(0, len(pcm), ENGINE_RATE_HZ):
            piece = pcm[start : start + ENGINE_RATE_HZ].tobytes()
            polls = 0
            while not self._smile.external_audio_source_write_data(_SOURCE, piece):
                with self._arrived:
                    self._arrived.wait(POLL_S)
                self._check_running()
                polls += 1
                if polls > MAX_POLLS:
                    raise FeatureEngineError("openSMILE is stuck: its buffers are full and it no longer reads them.")

    def frames(self) -> list[FeatureFrame]:
        """The frames since the last call; possibly none."""
        if self._failure is not None:
            raise FeatureEngineError(f"openSMILE stopped: {self._failure}") from self._failure
        return [self._finished_frames.popleft() for _ in range(len(self._finished_frames))]

    def wait(self, timeout_s: float) -> None:
        """Returns when a frame is ready, or after `timeout_s`."""
        with self._arrived:
            if not self._finished_frames:
                self._arrived.wait(timeout_s)

    def finish(self) -> list[FeatureFrame]:
        """Ends the stream and returns its remaining frames. The engine takes no more samples."""
        if self._smile is None:
            return []
        self._smile.external_audio_source_set_eoi(_SOURCE)
        self._thread.join()
        self._free()
        return self.frames()

    def end(self) -> None:
        """Asks the engine to stop at once, without waiting; `close` frees it."""
        with self._freeing:
            if self._smile is None:
                return
            # Raises if openSMILE is not running: then the end of the input ends it.
            with contextlib.suppress(_load_opensmile()[0].OpenSmileException):
                self._smile.abort()
            self._smile.external_audio_source_set_eoi(_SOURCE)

    @property
    def has_ended(self) -> bool:
        """Whether openSMILE's thread has ended, so that `close` does not wait."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stops the engine at once and frees it. Can be called twice."""
        self.end()
        self._thread.join()
        self._free()

    def _leave(self) -> None:
        # An abandoned thread may still be writing, so nothing is freed here.
        self.end()
        self._thread.join()

    def _free(self) -> None:
        with self._freeing:
            if self._smile is not None:
                atexit.unregister(self._leave)
                self._smile.free()
                self._smile = None

    def _run(self) -> None:
        try:
            self._smile.run()
        except Exception as error:  # noqa: BLE001 - raised in the thread that reads the frames
            self._failure = error

    def _on_frame(self, values: npt.NDArray[np.float32], _meta: object) -> None:
        # openSMILE overwrites `values` later. The index is counted here, because openSMILE's own is a C long.
        with self._arrived:
            index = self._next_index
            self._next_index += 1
            self._finished_frames.append(
                FeatureFrame(index, index * HOP_S, index * HOP_S + FRAME_S, np.array(values[0], dtype=np.float32))
            )
            self._arrived.notify_all()

    def _check_running(self) -> None:
        if not self._thread.is_alive():
            raise FeatureEngineError(f"openSMILE stopped: {self._failure or 'its thread ended'}")
