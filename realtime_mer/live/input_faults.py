"""Why an input has no music in it, though sound arrives: channels that cancel each other, hiss or hum, a muted source.

The level alone suggests the wrong cure for these, such as raising the fader.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from realtime_mer.live.metering import to_db
from realtime_mer.log import notify
from realtime_mer.sources.devices import muted_source
from realtime_mer.types import FloatArray

# Below this, treble is missing that the model was trained on.
_LOWEST_FULL_RATE_HZ = 32_000
# The mix of unrelated channels is 3 dB below them, and that of very wide stereo about 6 dB.
_CANCELLED_DB = 15.0
# Hiss and hum are soft, and hardly change from one tenth of a second to the next.
_LOUDEST_NOISE_DB = -30.0
_STEADY_DB = 3.0
_HOPS_PER_S = 10
# Hum is this share of the power near the harmonics of 50 or 60 Hz.
_HUM_SHARE = 0.9
_MAINS_HZ = (50.0, 60.0)
_HUM_WIDTH_HZ, _HIGHEST_HUM_HZ = 3.0, 1000.0
# The spectral flatness of hiss, from bands of 100 Hz: white noise has 1, pink noise 0.6, music less than 0.2.
_HISS_FLATNESS = 0.3
_BAND_HZ, _HIGHEST_BAND_HZ = 100.0, 10_000.0
# What would be silence if the threshold were this much above the loudest tenth of a second.
_MARGIN_DB = 3.0
# In a run, the fault must last this long.
_N_SECONDS = 5


class Fault(StrEnum):
    """What is wrong with an input."""

    CANCELLED = "its channels cancel each other"
    HISS = "hiss is taken for music"
    HUM = "hum is taken for music"
    MUTED = "it is muted"


@dataclass(frozen=True, slots=True)
class InputFault:
    """A fault and its cure, a sentence."""

    fault: Fault
    cure: str


def find_fault(samples: FloatArray, rate_hz: int, silence_db: float) -> InputFault | None:
    """The fault in this sound, if any.

    samples: about a second, shape (n_samples, n_channels). silence_db: the threshold of silence in dBFS.
    """
    mono = samples.mean(axis=1, dtype=np.float64)
    mono_db = _rms_db(mono)
    channel_db = max(_rms_db(samples[:, channel]) for channel in range(samples.shape[1]))
    if channel_db >= silence_db and mono_db < channel_db - _CANCELLED_DB:
        return InputFault(Fault.CANCELLED, "Use one of them (for a sound card: --channels 1), or check the cables.")
    if not silence_db <= mono_db <= _LOUDEST_NOISE_DB:
        return None
    hops_db = [_rms_db(hop) for hop in np.array_split(mono, max(round(_HOPS_PER_S * len(mono) / rate_hz), 1))]
    if max(hops_db) - min(hops_db) > _STEADY_DB:
        return None
    fault = _noise(mono, rate_hz)
    if fault is None:
        return None
    return InputFault(
        fault,
        f"If no music is playing now, use --silence-db {math.ceil(max(hops_db) + _MARGIN_DB)}: the prediction then "
        "holds while there is only this noise.",
    )


def low_rate_note(rate_hz: int | None) -> str:
    """What is missing at this sample rate, in a sentence; "" if nothing is."""
    if rate_hz is None or rate_hz >= _LOWEST_FULL_RATE_HZ:
        return ""
    return f"At {rate_hz} Hz the model gets nothing above {rate_hz / 2000:g} kHz; use 44100 Hz or more."


def muted_fault(input_name: str) -> InputFault | None:
    """The fault of a silent input that the sound server has muted. Waits for the server, at most a few seconds."""
    source = muted_source(input_name)
    if source is None:
        return None
    return InputFault(
        Fault.MUTED,
        f"Unmute it and turn it up: pactl set-source-mute {source.name} 0; pactl set-source-volume {source.name} 100%",
    )


class InputWatch:
    """Looks for faults in the sound of a run, second by second.

    note: the fault that has lasted for the last five seconds, in a sentence or two; "" if there is none.
    """

    def __init__(self, silence_db: float) -> None:
        self.note = ""
        self._silence_db = silence_db
        self._waiting: list[FloatArray] = []
        self._n_waiting = 0
        self._recent: deque[InputFault | None] = deque(maxlen=_N_SECONDS)
        self._zeros_s = 0
        self._notified: set[Fault] = set()

    def step(self, samples: FloatArray, rate_hz: int, input_name: str) -> None:
        """Takes the next sound, shape (n_samples, n_channels)."""
        if self._waiting and self._waiting[0].shape[1] != samples.shape[1]:
            self._waiting, self._n_waiting = [], 0
        self._waiting.append(samples)
        self._n_waiting += len(samples)
        if self._n_waiting < rate_hz:
            return
        second = np.concatenate(self._waiting)
        self._waiting, self._n_waiting = [], 0
        self._recent.append(find_fault(second, rate_hz, self._silence_db))
        # A muted source gives nothing but zeros.
        self._zeros_s = 0 if second.any() else self._zeros_s + 1
        faults = {found.fault if found else None for found in self._recent}
        found = self._recent[-1]
        lasts = found is not None and len(faults) == 1 and len(self._recent) == _N_SECONDS
        self._set(found if lasts else None, input_name)
        if self._zeros_s == _N_SECONDS:
            # In a thread, since the answer of a sound server can take seconds.
            threading.Thread(target=self._ask_if_muted, args=(input_name,), name="muted", daemon=True).start()

    def _ask_if_muted(self, input_name: str) -> None:
        found = muted_fault(input_name)
        if found is not None and self._zeros_s:
            self._set(found, input_name)

    def _set(self, found: InputFault | None, input_name: str) -> None:
        if found is None:
            # That it is muted stays true until there is sound.
            if not (self._zeros_s and Fault.MUTED in self.note):
                self.note = ""
            return
        self.note = f"{input_name}: {found.fault}. {found.cure}"
        if found.fault not in self._notified:
            self._notified.add(found.fault)
            notify(self.note)


def _noise(mono: npt.NDArray[np.float64], rate_hz: int) -> Fault | None:
    """Hiss or hum; None if the spectrum is that of neither."""
    power = np.square(np.abs(np.fft.rfft((mono - mono.mean()) * np.hanning(len(mono)))))
    hz = np.asarray(np.fft.rfftfreq(len(mono), 1 / rate_hz), dtype=np.float64)
    hums = [_near_harmonics(hz, mains_hz) for mains_hz in _MAINS_HZ]
    if max(power[near].sum() for near in hums) >= _HUM_SHARE * power.sum():
        return Fault.HUM
    kept = ~np.logical_or.reduce(hums) & (hz >= _BAND_HZ) & (hz < min(_HIGHEST_BAND_HZ, 0.45 * rate_hz))
    band = (hz[kept] // _BAND_HZ).astype(int)
    means = np.bincount(band, power[kept])[1:] / np.maximum(np.bincount(band)[1:], 1)
    means = means[means > 0.0]
    flatness = np.exp(np.log(means).mean()) / means.mean() if len(means) else 0.0
    return Fault.HISS if flatness >= _HISS_FLATNESS else None


def _near_harmonics(hz: npt.NDArray[np.float64], mains_hz: float) -> npt.NDArray[np.bool_]:
    nearest = np.maximum(np.round(hz / mains_hz), 1.0) * mains_hz
    near: npt.NDArray[np.bool_] = (np.abs(hz - nearest) <= _HUM_WIDTH_HZ) & (hz <= _HIGHEST_HUM_HZ)
    return near


def _rms_db(samples: npt.NDArray[np.floating]) -> float:
    return to_db(math.sqrt(float(np.mean(np.square(samples, dtype=np.float64)))))
