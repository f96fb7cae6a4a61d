"""PortAudio, the sound server, the inputs, and one second of the chosen one."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from realtime_mer.config import LiveSettings
from realtime_mer.doctor import Check, Verdict, failed, ok, skipped, told, warning

_PULSE_DEVICE = "pulse"
_LISTEN_S = 1.0
# The monitor of an idle PulseAudio sink gives nothing for its first two seconds.
_PATIENCE_S = 6.0
_REST_S = 0.02


def inputs(settings: LiveSettings) -> list[Check]:
    """PortAudio, what it lists, and on Linux what leads to a sound server and to cards."""
    from realtime_mer.sources.devices import DeviceError, list_inputs, portaudio

    # What a file or standard input does without is no failure.
    verdict = Verdict.FAILED if settings.input.file is None else Verdict.WARNING
    try:
        library = portaudio().get_portaudio_version()[1]
    except DeviceError as error:
        return [told("PortAudio", error, verdict=verdict), *_linux(None)]
    found = [ok("PortAudio", library.split(",")[0])]
    try:
        devices = list_inputs()
    except DeviceError as error:
        return [*found, told("inputs", error, verdict=verdict), *_linux(None)]
    default = next((device.name for device in devices if device.is_default), "none")
    if devices:
        found.append(ok("inputs", f"{len(devices)}; the default one is {default!r}; `realtime-mer devices` lists them"))
    else:
        cure = "Plug one in, start the sound server, or allow this program to use the microphone."
        found.append(Check("inputs", verdict, "This machine has no sound input.", cure))
    return [*found, *_linux([device.name for device in devices])]


def level(settings: LiveSettings) -> list[Check]:
    """One second of the chosen input: how loud it is."""
    from realtime_mer.live.metering import LevelMeter, to_db
    from realtime_mer.sources.device import DeviceSource
    from realtime_mer.sources.devices import DeviceError
    from realtime_mer.sources.reading import AudioFileError, read_blocks
    from realtime_mer.updates import LevelState, SourceState

    file = settings.input.file
    if file is not None:
        name = "standard input" if file == "-" else Path(file).name
        if file != "-" and not Path(file).is_file():
            return [failed("level", f"There is no file {name}.", "Give another one with --input.")]
        if file != "-":
            try:
                next(read_blocks(Path(file)), None)
            except AudioFileError as error:
                return [failed("level", str(error).replace(str(Path(file)), name), "Give another one with --input.")]
        return [skipped("level", f"{name} is heard, no device")]
    with contextlib.closing(DeviceSource(settings.audio)) as source:
        try:
            source.start()
        except DeviceError as error:
            return [told("level", error, cure="`realtime-mer devices` lists the inputs; choose one with --device.")]
        heard: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
        n_samples, rate_hz = 0, 0
        give_up_s = time.monotonic() + _PATIENCE_S
        while not heard or n_samples < _LISTEN_S * rate_hz:
            capture = source.read()
            if capture is not None:
                heard.append(capture.samples)
                n_samples, rate_hz = n_samples + len(capture.samples), capture.rate_hz
            elif time.monotonic() > give_up_s or source.state is SourceState.LOST:
                text = f"{source.name} opens, but gives no sound. {source.detail}".strip()
                return [failed("level", text, "Choose another input (`realtime-mer devices`), or restart the server.")]
            else:
                time.sleep(_REST_S)
        name = source.name
    samples = np.concatenate(heard)
    meter = LevelMeter(settings.level, rate_hz)
    meter.step(samples)
    measured = meter.level()
    assert measured is not None, "a second has ten hops"
    rms_db = to_db(math.sqrt(float(np.mean(np.square(samples.mean(axis=1, dtype=np.float64))))))
    peak_db = to_db(float(np.abs(samples).max()))
    text = (
        f"{name}, {rate_hz} Hz, {samples.shape[1]} channel{'' if samples.shape[1] == 1 else 's'}: "
        f"{rms_db:.1f} dBFS, peak {peak_db:.1f} dBFS"
    )
    if measured.state is LevelState.SILENCE:
        cure = "Play music while this runs; if it stays silent, raise the fader or choose another input with --device."
        return [warning("level", f"{text}: silence (below {settings.level.silence_db:g} dBFS)", cure)]
    if measured.state is LevelState.QUIET:
        return [warning("level", f"{text}: too quiet for music", "Raise the fader, or the input's gain.")]
    if measured.state is LevelState.CLIPPING:
        return [warning("level", f"{text}: clipping", "Lower the fader, or the input's gain.")]
    return [ok("level", text)]


def _linux(names: list[str] | None) -> list[Check]:
    """What leads to a sound server and to cards, on Linux. names: what PortAudio lists; None where it does not."""
    if sys.platform != "linux":
        return []
    return [_server(names), _cards()]


def _server(names: list[str] | None) -> Check:
    from realtime_mer.sources.devices import pulse_sources

    if shutil.which("pactl") is None:
        cure = "To hear what plays, install pulseaudio-utils (Debian)."
        return warning("sound server", "There is no pactl, which names its sources.", cure)
    sources = pulse_sources()
    if not sources:
        cure = "Start PulseAudio or PipeWire (systemctl --user start pipewire-pulse), as the user who is logged in."
        return warning("sound server", "None answers; only cards can be heard.", cure)
    if names is not None and _PULSE_DEVICE not in names:
        cure = "Install libasound2-plugins (Debian), alsa-plugins-pulseaudio (Fedora)."
        return warning("sound server", "It answers, but ALSA has no plug-in that leads to it.", cure)
    monitors = sum(source.is_monitor for source in sources)
    return ok("sound server", f"{len(sources)} source{'' if len(sources) == 1 else 's'}, {monitors} of what is playing")


def _cards() -> Check:
    """Whether this user may open the sound cards themselves."""
    captures = sorted(Path("/dev/snd").glob("pcm*c"))
    closed = [path.name for path in captures if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        cure = "Join the group audio (sudo usermod -aG audio $USER, then log in again), or use the sound server."
        return warning("sound cards", f"This user may not open {', '.join(closed)}.", cure)
    if not captures:
        return skipped("sound cards", "none of this machine's own")
    return ok("sound cards", f"{len(captures)} that can capture, and may be opened")
