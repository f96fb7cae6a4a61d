"""The inputs of this machine's sound cards and sound server, and which one `--device` means.

PortAudio lists sound cards, but not the sources inside a PulseAudio or PipeWire server, such as the monitors of its
outputs. The server lists those, and they are opened through PortAudio's ALSA device `pulse`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from realtime_mer.sources import SourceError

DEFAULT = "default"
# The ALSA plug-in's device that leads to the sound server, and one that usually does.
_PULSE_DEVICE = "pulse"
_LED_TO_PULSE = (_PULSE_DEVICE, DEFAULT)
_PULSE_HOST_API = "PulseAudio"
_SERVER_TIMEOUT_S = 2.0
# Names of inputs that carry this machine's output: virtual cables on macOS and Windows, PortAudio's WASAPI loopback.
_LOOPBACK_NAMES = ("blackhole", "soundflower", "loopback", "stereo mix", "what u hear", "cable output", "monitor of")
_PORTAUDIO_CURE = {
    "linux": "Install it: apt-get install libportaudio2 (Debian, Ubuntu), dnf install portaudio (Fedora).",
    "darwin": "Install it: brew install portaudio, or reinstall the Python package sounddevice.",
}
_NO_DEVICE_CURE = {
    "linux": "Plug one in, or start the sound server (PulseAudio or PipeWire, with Debian's libasound2-plugins); for a "
    "sound card without a server, join the group audio.",
    "darwin": "Plug one in, and allow the terminal to use the microphone (System Settings, Privacy, Microphone).",
    "win32": "Plug one in, and allow desktop apps to use the microphone (Settings, Privacy, Microphone).",
}
_LOOPBACK_CURE = {
    "linux": " Start PulseAudio or PipeWire, and install libasound2-plugins and pulseaudio-utils (Debian).",
    "darwin": " Install a virtual cable such as BlackHole.",
    "win32": " Install a virtual cable such as VB-CABLE.",
}
# ALSA's number of a card, which changes when it is plugged in again.
_CARD_NUMBER = re.compile(r" \(hw:\d+,\d+\)$")


class DeviceError(SourceError):
    """A device that is missing, ambiguous or cannot be opened; or no PortAudio."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """An input that can be opened.

    name: for people and for `--device`. index: PortAudio's.
    n_channels, rate_hz: its own. is_default: whether `--device default` opens it; is_host_api_default: the same for its
    host API.
    hears_playback: whether it carries this machine's output.
    remixes: whether opening it with fewer channels mixes all channels into those, as a sound server does.
    pulse_source: the sound server's name for it, if it is a source inside one.
    """

    name: str
    index: int
    host_api: str
    n_channels: int
    rate_hz: int
    is_default: bool
    hears_playback: bool
    remixes: bool = False
    pulse_source: str | None = None
    is_host_api_default: bool = False

    @property
    def argument(self) -> str:
        """An unambiguous value for `--device`."""
        return self.pulse_source or str(self.index)


@dataclass(frozen=True, slots=True)
class PulseSource:
    """A source of the sound server, as it describes it."""

    name: str
    description: str
    n_channels: int
    rate_hz: int
    is_default: bool
    is_monitor: bool
    is_muted: bool = False


def portaudio() -> ModuleType:
    """The module sounddevice. Raises DeviceError if PortAudio's library is missing or does not start."""
    try:
        import sounddevice
    except OSError as error:
        cure = _PORTAUDIO_CURE.get(sys.platform, "Reinstall the Python package sounddevice, which brings it.")
        raise DeviceError(f"The library PortAudio cannot be used ({error}). {cure}") from error
    except Exception as error:
        # The import starts PortAudio; the class of its error cannot be imported then.
        if type(error).__name__ != "PortAudioError":
            raise
        raise DeviceError(f"PortAudio does not start: {error}") from error
    module: ModuleType = sounddevice
    return module


def pulse_sources() -> list[PulseSource]:
    """The sources of this session's PulseAudio or PipeWire server; none if it does not answer within two seconds."""
    try:
        described = json.loads(_ask_server("--format=json", "list", "sources"))
        default = _ask_server("get-default-source").strip()
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    sources = []
    for source in described if isinstance(described, list) else ():
        # A source with a strange description is left out.
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
            sources.append(_pulse_source(source, default))
    return sources


def muted_source(input_name: str) -> PulseSource | None:
    """The source of the sound server behind the input of this name, if it is muted or its volume is 0."""
    for source in pulse_sources():
        is_it = source.description == input_name or (source.is_default and input_name in _LED_TO_PULSE)
        if is_it and source.is_muted:
            return source
    return None


def is_gone(pulse_source: str) -> bool:
    """Whether the sound server has no such source; False if it does not answer."""
    try:
        lines = _ask_server("list", "short", "sources").splitlines()
    except (OSError, subprocess.SubprocessError):
        return False
    return pulse_source not in [line.split("\t")[1] for line in lines if "\t" in line]


def _ask_server(*request: str) -> str:
    # In a process of its own, since libpulse waits forever for a hanging server. Not in the user's language: pactl
    # translates even the sample rates.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    answer = subprocess.run(
        ["pactl", *request], env=environment, capture_output=True, check=True, timeout=_SERVER_TIMEOUT_S
    )
    return answer.stdout.decode("utf-8", "replace")


def list_inputs() -> list[InputDevice]:
    """Every input: PortAudio's in its order, then the sound server's sources. Raises DeviceError without PortAudio."""
    sounddevice = portaudio()
    try:
        host_apis = sounddevice.query_hostapis()
        default_index = sounddevice.default.device[0]
        devices = [device for device in sounddevice.query_devices() if device["max_input_channels"] > 0]
    except sounddevice.PortAudioError as error:
        raise DeviceError(f"PortAudio cannot list the inputs: {error}.") from error
    found = []
    lead_to_pulse = [d for d in devices if sys.platform == "linux" and d["name"] in _LED_TO_PULSE]
    sources = pulse_sources() if any(device["name"] == _PULSE_DEVICE for device in lead_to_pulse) else []
    behind = next((source for source in sources if source.is_default), None)
    for device in devices:
        through = behind if device in lead_to_pulse else None
        found.append(
            InputDevice(
                device["name"],
                device["index"],
                host_apis[device["hostapi"]]["name"],
                through.n_channels if through else device["max_input_channels"],
                # The plug-in resamples to any rate; the server's own spares that.
                through.rate_hz if through else round(device["default_samplerate"]),
                device["index"] == default_index,
                through.is_monitor if through else _sounds_like_loopback(device["name"]),
                through is not None,
                is_host_api_default=device["index"] == host_apis[device["hostapi"]]["default_input_device"],
            )
        )
    for device in lead_to_pulse:
        if device["name"] == _PULSE_DEVICE:
            found += [
                InputDevice(
                    source.description,
                    device["index"],
                    _PULSE_HOST_API,
                    source.n_channels,
                    source.rate_hz,
                    source.is_default,
                    source.is_monitor,
                    True,
                    source.name,
                    source.is_default,
                )
                for source in sources
            ]
    return found


def find_input(wanted: str, host_api: str | None = None) -> InputDevice:
    """The input called `wanted`: `default`, an index, a name or a part of one (case is ignored).

    host_api: a part of the name of its host API. Raises DeviceError, listing the inputs, if there is none or more than
    one.
    """
    return choose(list_inputs(), wanted, host_api)


def find_again(lost: InputDevice) -> InputDevice:
    """The lost input, found by its name and host API: its index may have changed.

    Raises DeviceError while it is missing.
    """
    inputs = list_inputs()
    same = [device for device in inputs if _identity(device) == _identity(lost)]
    if not same:
        raise DeviceError(f"The input {lost.name!r} is missing. Waiting for its return.")
    return next((device for device in same if device.index == lost.index), same[0])


def choose(inputs: Sequence[InputDevice], wanted: str, host_api: str | None) -> InputDevice:
    """Like find_input, among these."""
    if not inputs:
        raise _none_at_all()
    among = [device for device in inputs if (host_api or "").casefold() in device.host_api.casefold()]
    if not among:
        names = ", ".join(sorted({device.host_api for device in inputs}))
        raise DeviceError(f"No input belongs to a host API called {host_api!r}; there are: {names}.")
    if wanted == DEFAULT:
        return _default_of(among, host_api)
    if wanted.isdecimal():
        of_index = [device for device in among if device.index == int(wanted) and device.pulse_source is None]
        if not of_index:
            raise DeviceError(f"No input has the index {wanted}. {_listed(among)}")
        return of_index[0]
    exact = [device for device in among if wanted.casefold() in (n.casefold() for n in _names(device))]
    partial = [device for device in among if any(wanted.casefold() in name.casefold() for name in _names(device))]
    matches = exact or partial
    if not matches:
        raise DeviceError(f"No input is called {wanted!r}, or has that in its name. {_listed(among)}")
    if len(matches) > 1:
        raise DeviceError(f"{wanted!r} could be any of {len(matches)} inputs; choose one. {_listed(matches)}")
    return matches[0]


def devices_table(inputs: Sequence[InputDevice]) -> str:
    """The output of `realtime-mer devices`: a line for each input, with its value for `--device`.

    Raises DeviceError if there is none.
    """
    if not inputs:
        raise _none_at_all()
    rows = [("--device", "name", "host API", "channels", "rate", "")]
    for device in inputs:
        notes = [
            "default" * device.is_default,
            "captures what is playing" * device.hears_playback,
        ]
        rate = f"{device.rate_hz} Hz"
        rows.append(
            (
                device.argument,
                device.name,
                device.host_api,
                str(device.n_channels),
                rate,
                ", ".join(filter(None, notes)),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not any(device.hears_playback for device in inputs):
        cure = _LOOPBACK_CURE.get(sys.platform, "")
        lines += ["", f"None of these inputs is known to capture what this machine plays.{cure}"]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def pulse_source_chosen(name: str | None) -> Iterator[None]:
    """Inside this context, the ALSA plug-in opens this source of the sound server.

    The plug-in has no parameter for it, but libpulse takes the name from the environment.
    """
    if name is None:
        yield
        return
    before = os.environ.get("PULSE_SOURCE")
    os.environ["PULSE_SOURCE"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["PULSE_SOURCE"]
        else:
            os.environ["PULSE_SOURCE"] = before


def _none_at_all() -> DeviceError:
    return DeviceError(f"This machine has no sound input. {_NO_DEVICE_CURE.get(sys.platform, 'Plug one in.')}")


def _default_of(inputs: Sequence[InputDevice], host_api: str | None) -> InputDevice:
    defaults = [d for d in inputs if d.is_default or (host_api is not None and d.is_host_api_default)]
    if not defaults:
        raise DeviceError(f"None of these inputs is the default; choose one. {_listed(inputs)}")
    # PortAudio's own before the server's source behind it: it follows if the user changes the server's default.
    return min(defaults, key=lambda device: (not device.is_default, device.pulse_source is not None))


def _identity(device: InputDevice) -> tuple[str, str, bool, str | None]:
    # If the name led to a sound server, a card of the same name, while the server is away, is not the same input.
    return _CARD_NUMBER.sub("", device.name), device.host_api, device.remixes, device.pulse_source


def _pulse_source(described: dict[str, Any], default: str) -> PulseSource:
    # As in "s16le 2ch 44100Hz".
    _, channels, rate = described["sample_specification"].split()
    return PulseSource(
        described["name"],
        described["description"],
        int(channels.removesuffix("ch")),
        int(rate.removesuffix("Hz")),
        described["name"] == default,
        described["properties"].get("device.class") == "monitor",
        bool(described.get("mute")) or _is_turned_down(described.get("volume") or {}),
    )


def _is_turned_down(volume: dict[str, Any]) -> bool:
    """Whether every channel's volume is 0."""
    return bool(volume) and all(channel["value"] == 0 for channel in volume.values())


def _names(device: InputDevice) -> tuple[str, ...]:
    return (device.name,) if device.pulse_source is None else (device.name, device.pulse_source)


def _listed(inputs: Sequence[InputDevice]) -> str:
    lines = (f"  --device {device.argument}  ({device.name}, {device.host_api})" for device in inputs)
    return "There are:\n" + "\n".join(lines)


def _sounds_like_loopback(name: str) -> bool:
    return any(part in name.casefold() for part in _LOOPBACK_NAMES)
