"""PortAudio, the sound server, the inputs, and one second of sound from the chosen input."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from realtime_mer.config import LevelMeterSettings, LiveSettings
from realtime_mer.doctor import Check, Verdict, failed, from_error, ok, skipped, warning
from realtime_mer.types import FloatArray

_PULSE_DEVICE = "pulse"
_LISTEN_S = 1.0
# The monitor of an idle PulseAudio sink is silent for its first two seconds.
_TIMEOUT_S = 6.0
_POLL_S = 0.02


def inputs(settings: LiveSettings) -> list[Check]:
    """PortAudio and its inputs; on Linux also the sound server and the cards."""
    from realtime_mer.sources.devices import DeviceError, list_inputs, portaudio

    # A file or standard input needs none of this.
    verdict = Verdict.FAILED if settings.input.file is None else Verdict.WARNING
    try:
        library = portaudio().get_portaudio_version()[1]
    except DeviceError as error:
        return [from_error("PortAudio", error, verdict=verdict), *_linux(None)]
    found = [ok("PortAudio", library.split(",")[0])]
    try:
        devices = list_inputs()
    except DeviceError as error:
        return [*found, from_error("inputs", error, verdict=verdict), *_linux(None)]
    default = next((device.name for device in devices if device.is_default), "none")
    if devices:
        found.append(ok("inputs", f"{len(devices)}; the default one is {default!r}; `realtime-mer devices` lists them"))
    else:
        cure = "Plug one in, start the sound server, or allow this program to use the microphone."
        found.append(Check("inputs", verdict, "This machine has no sound input.", cure))
    return [*found, *_linux([device.name for device in devices])]


def level(settings: LiveSettings) -> list[Check]:
    """How loud one second of the chosen input is."""
    from realtime_mer.sources.device import DeviceSource
    from realtime_mer.sources.devices import DeviceError
    from realtime_mer.updates import SourceState

    if settings.input.file is not None:
        return [_file(settings.input.file)]
    with contextlib.closing(DeviceSource(settings.audio)) as source:
        try:
            source.start()
        except DeviceError as error:
            cure = "`realtime-mer devices` lists the inputs; choose one with --device."
            return [from_error("level", error, cure=cure)]
        blocks: list[FloatArray] = []
        n_samples, rate_hz = 0, 0
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not blocks or n_samples < _LISTEN_S * rate_hz:
            capture = source.read()
            if capture is not None:
                blocks.append(capture.samples)
                n_samples, rate_hz = n_samples + len(capture.samples), capture.rate_hz
            elif time.monotonic() > deadline_s or source.state is SourceState.LOST:
                text = f"{source.name} opens, but delivers no sound. {source.detail}".strip()
                return [failed("level", text, "Choose another input (`realtime-mer devices`), or restart the server.")]
            else:
                time.sleep(_POLL_S)
    return [_level_check(np.concatenate(blocks), rate_hz, source.name, settings.level)]


def _level_check(samples: FloatArray, rate_hz: int, name: str, settings: LevelMeterSettings) -> Check:
    """The verdict on a second of sound, shape (n_samples, n_channels)."""
    from realtime_mer.live.input_faults import find_fault, muted_fault
    from realtime_mer.live.metering import LevelMeter, to_db
    from realtime_mer.updates import LevelState

    meter = LevelMeter(settings, rate_hz)
    meter.step(samples)
    measured = meter.level()
    assert measured is not None, "a second has ten hops"
    rms_db = to_db(math.sqrt(float(np.mean(np.square(samples.mean(axis=1, dtype=np.float64))))))
    peak_db = to_db(float(np.abs(samples).max()))
    channels = f"{samples.shape[1]} channel{'' if samples.shape[1] == 1 else 's'}"
    text = f"{name}, {rate_hz} Hz, {channels}: {rms_db:.1f} dBFS, peak {peak_db:.1f} dBFS"
    fault = find_fault(samples, rate_hz, settings.silence_db)
    if fault is None and not samples.any():
        fault = muted_fault(name)
    if fault is not None:
        return warning("level", f"{text}: {fault.fault}", fault.cure)
    if measured.state is LevelState.SILENCE:
        cure = "Play music while this runs; if it stays silent, raise the fader or choose another input with --device."
        return warning("level", f"{text}: silence (below {settings.silence_db:g} dBFS)", cure)
    if measured.state is LevelState.QUIET:
        return warning("level", f"{text}: too quiet for music", "Raise the fader, or the input's gain.")
    if measured.state is LevelState.CLIPPING:
        return warning("level", f"{text}: clipping", "Lower the fader, or the input's gain.")
    return ok("level", text)


def _file(file: str) -> Check:
    """The input if it is a file; `-` is standard input."""
    from realtime_mer.sources.reading import AudioFileError, read_blocks

    if file == "-":
        return skipped("level", "the input is standard input, not a device")
    path = Path(file)
    cure = "Give another one with --input."
    if not path.is_file():
        return failed("level", f"There is no file {path.name}.", cure)
    try:
        if next(read_blocks(path), None) is None:
            return failed("level", f"There is no sound in {path.name}.", cure)
    except AudioFileError as error:
        return failed("level", str(error).replace(str(path), path.name), cure)
    return skipped("level", f"the input is {path.name}, not a device")


def _linux(names: list[str] | None) -> list[Check]:
    """The sound server and the cards. names: the inputs that PortAudio lists; None if it cannot list them."""
    if sys.platform != "linux":
        return []
    return [_server(names), _cards()]


def _server(names: list[str] | None) -> Check:
    from realtime_mer.sources.devices import pulse_sources

    if shutil.which("pactl") is None:
        cure = "To capture what is playing, install pulseaudio-utils (Debian)."
        return warning("sound server", "There is no pactl, which lists its sources.", cure)
    sources = pulse_sources()
    if not sources:
        cure = "Start PulseAudio or PipeWire (systemctl --user start pipewire-pulse), as the user who is logged in."
        return warning("sound server", "None answers; only cards can be used.", cure)
    if names is not None and _PULSE_DEVICE not in names:
        cure = "Install libasound2-plugins (Debian), alsa-plugins-pulseaudio (Fedora)."
        return warning("sound server", "It answers, but ALSA has no plug-in for it.", cure)
    monitors = sum(source.is_monitor for source in sources)
    return ok("sound server", f"{len(sources)} source{'' if len(sources) == 1 else 's'}, {monitors} of what is playing")


def _cards() -> Check:
    """Whether this user may open the sound cards directly."""
    captures = sorted(Path("/dev/snd").glob("pcm*c"))
    closed = [path.name for path in captures if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        cure = "Join the group audio (sudo usermod -aG audio $USER, then log in again), or use the sound server."
        return warning("sound cards", f"This user may not open {', '.join(closed)}.", cure)
    if not captures:
        return skipped("sound cards", "this machine has none")
    return ok("sound cards", f"{len(captures)} that can capture, and may be opened")
