"""Predictions and how the program is doing, sent by Open Sound Control (OSC 1.0) over UDP.

What goes to every target; each row group is one bundle with the immediate time tag (a tag with a time would make
receivers whose clocks differ hold it back):

    address              type  meaning
    /mer/valence         f     [-1, 1]                                                   } with every prediction,
    /mer/arousal         f     [-1, 1]                                                   } every 0.5 s
    /mer/va              ff    valence and arousal together
    /mer/frame           i     0, 1, 2, … since the program began
    /mer/time            f     stream time of the frame's end, s
    /mer/held            i     1 in silence, where the prediction holds; else 0

    /mer/status/source   s     opening, running, paused, lost or ended                   } at each change of source
    /mer/status/input    s     music, too quiet, clipping, silence; none before sound    } or input, and once a second
    /mer/status/drops    i     blocks of sound lost by overload so far
    /mer/status/losses   i     how often the device was lost so far

Only 32-bit floats and integers outside /mer/status: much stage software takes no others. For /mer/time that is enough:
a float32 tells 1/128 s apart for the first 36 hours and 1/32 s for the first 6 days; /mer/frame is exact.

The encoding is that of https://opensoundcontrol.stanford.edu/spec-1_0.html.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from realtime_mer.status import Status, Update

HEARTBEAT_S = 1.0

_BRACKETED = re.compile(r"\[([^\[\]]*)\]:(.*)", re.DOTALL)
_HOST = re.compile(r"[^\s\[\]:/@]+")
_PORT = re.compile(r"[0-9]{1,5}")
_LARGEST_PORT = 65_535


class OscError(ValueError):
    """A target that cannot be sent to."""


@dataclass(frozen=True, slots=True)
class OscTarget:
    """A receiver: a name, or an IPv4 or IPv6 address without brackets, and its UDP port, 1 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Message:
    """One OSC message. types: a letter for each value: f (32-bit float), i (32-bit integer) or s (ASCII string)."""

    address: str
    types: str
    values: tuple[float | int | str, ...]


def parse_target(text: str) -> OscTarget:
    """The target that `HOST:PORT` names; an IPv6 address stands in brackets, as in `[::1]:9000`.

    Raises OscError for anything else.
    """
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        host, port = bracketed.groups()
        if not _is_ipv6(host):
            raise _no_target(text, f"{host!r} is no IPv6 address")
    else:
        host, colon, port = text.rpartition(":")
        if _is_ipv6(text) or _is_ipv6(host):
            raise _no_target(text, "an IPv6 address goes in square brackets")
        if not colon:
            raise _no_target(text, "it names no host" if _PORT.fullmatch(text) else "it names no port")
        if not host:
            raise _no_target(text, "it names no host (this computer is 127.0.0.1)")
        if not _HOST.fullmatch(host) or not host.isprintable():
            raise _no_target(text, f"{host!r} is no host name or address")
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= _LARGEST_PORT:
        raise _no_target(text, f"the port must be a whole number from 1 to {_LARGEST_PORT}, not {port!r}")
    return OscTarget(host, int(port))


def update_messages(update: Update) -> tuple[Message, ...]:
    """What is said of a prediction."""
    return (
        Message("/mer/valence", "f", (update.valence,)),
        Message("/mer/arousal", "f", (update.arousal,)),
        Message("/mer/va", "ff", (update.valence, update.arousal)),
        Message("/mer/frame", "i", (update.index,)),
        Message("/mer/time", "f", (update.time_s,)),
        Message("/mer/held", "i", (int(update.held),)),
    )


def status_messages(status: Status) -> tuple[Message, ...]:
    """What is said of how things are."""
    return (
        Message("/mer/status/source", "s", (status.state.value,)),
        Message("/mer/status/input", "s", (_input_state(status),)),
        Message("/mer/status/drops", "i", (status.dropped_blocks,)),
        Message("/mer/status/losses", "i", (status.losses,)),
    )


def packet(messages: Sequence[Message]) -> bytes:
    """The messages as one bundle to be acted on at once."""
    bundle = OscBundleBuilder(IMMEDIATELY)
    for message in messages:
        builder = OscMessageBuilder(message.address)
        for value, osc_type in zip(message.values, message.types, strict=True):
            builder.add_arg(value, osc_type)
        bundle.add_content(builder.build())
    return bundle.build().dgram


class OscSink:
    """Sends every prediction, and how things are, to all targets. One thread calls `update`, `status` and `close`.

    What cannot be sent (no network, a full send buffer) is counted and gone: the next prediction comes in half a
    second. Whether anyone listens, UDP does not tell.

    clock: seconds, never falling; it times the heartbeat.
    """

    def __init__(self, targets: Sequence[OscTarget], clock: Callable[[], float] = time.monotonic) -> None:
        """Looks up the targets' names, once; that takes as long as the name server takes.

        Raises OscError where a name has no address, or this computer cannot send to that kind of address.
        """
        self._clock = clock
        self._told: tuple[str, str] | None = None
        self._told_at = 0.0
        self._outputs: list[_UdpOutput] = []
        try:
            for target in targets:
                self._outputs.append(_UdpOutput(target))
        except OscError:
            self.close()
            raise

    @property
    def send_errors(self) -> tuple[int, ...]:
        """How many packets could not be sent, for each target in the order given."""
        return tuple(output.send_errors for output in self._outputs)

    def summary(self) -> list[str]:
        """Each target as HOST:PORT, with what could not be sent to it. Any thread may ask."""
        return [output.summary() for output in self._outputs]

    def update(self, update: Update) -> None:
        """Sends the prediction."""
        self._send(update_messages(update))

    def status(self, status: Status) -> None:
        """Sends how things are where source or input have changed, or nothing was said of them for HEARTBEAT_S."""
        states = (status.state.value, _input_state(status))
        now = self._clock()
        if states != self._told or now - self._told_at >= HEARTBEAT_S:
            self._told, self._told_at = states, now
            self._send(status_messages(status))

    def close(self) -> None:
        """Sends nothing more. Harmless when called twice."""
        for output in self._outputs:
            output.close()

    def _send(self, messages: Sequence[Message]) -> None:
        whole = packet(messages)
        for output in self._outputs:
            output.send(whole)


class _UdpOutput:
    """One target and a socket of its own, so that a full buffer or an error is this target's alone."""

    def __init__(self, target: OscTarget) -> None:
        """Raises OscError as OscSink does."""
        self._target = target
        self.send_errors = 0
        self._last_error = ""
        family, self._address = _look_up(target)
        try:
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
            raise OscError(
                f"The OSC target {target} cannot be sent to: {kind} does not work on this computer "
                f"({error.strerror or error}). Give an address of the other kind."
            ) from error
        self._socket.setblocking(False)

    def summary(self) -> str:
        if not self.send_errors:
            return str(self._target)
        return f"{self._target} ({self.send_errors} packets not sent: {self._last_error})"

    def send(self, whole: bytes) -> None:
        try:
            # Not connected: on a connected socket, a port where nobody listens would make the next call fail.
            self._socket.sendto(whole, self._address)
        except OSError as error:
            self._last_error = error.strerror or str(error)
            self.send_errors += 1

    def close(self) -> None:
        self._socket.close()


# What a socket address is depends on its family; typeshed has no better word for it either.
def _look_up(target: OscTarget) -> tuple[socket.AddressFamily, Any]:
    """Its first IPv4 address, or else its first IPv6 one: of a name with both, most OSC software hears IPv4 only."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    # A name with an empty or overlong part raises UnicodeError, a ValueError.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise OscError(
            f"The OSC target {target} has no known address: {reason}. Check the name, or give its address in numbers."
        ) from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def _input_state(status: Status) -> str:
    return "none" if status.level is None else status.level.state.value


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _no_target(text: str, why: str) -> OscError:
    return OscError(f"{text!r} is no OSC target: {why}. Expected HOST:PORT, as in 127.0.0.1:9000 or [::1]:9000.")
