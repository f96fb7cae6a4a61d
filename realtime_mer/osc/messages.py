"""OSC 1.0's encoding, https://opensoundcontrol.stanford.edu/spec-1_0.html, by python-osc, with checks around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket, ParseError

# The largest UDP packet there is.
MAX_PACKET_BYTES = 65_507
# Of bundles in bundles, and of arrays in arrays, since reading, comparing and showing them recurses.
_MAX_DEPTH = 8
_BUNDLE = b"#bundle\0"
_BUNDLE_HEAD_BYTES = len(_BUNDLE) + 8
# The size of a value, for types of a fixed size.
_FIXED_BYTES = {**dict.fromkeys("TFNI[]", 0), **dict.fromkeys("ifcrm", 4), **dict.fromkeys("hdt", 8)}
_ANY_ADDRESS = b"/\0\0\0"
# Types that python-osc would skip with a log line, as the type of the same encoding.
_AS_PYTHON_OSC_HAS_IT = bytes.maketrans(b"ScI", b"siN")


class PacketError(ValueError):
    """Bytes that are not an OSC packet, or exceed a limit. Its text says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One OSC message. types: a letter for each value: f (32-bit float), i (32-bit integer) or s (ASCII string); in a
    received message also OSC's other types, with the brackets of arrays."""

    address: str
    types: str
    values: tuple[object, ...]


def packet(messages: Sequence[Message]) -> bytes:
    """The messages as one bundle with the time tag "immediately"."""
    bundle = OscBundleBuilder(IMMEDIATELY)
    for message in messages:
        bundle.add_content(_built(message))
    return bundle.build().dgram


def message_packet(message: Message) -> bytes:
    """The message alone, without a bundle."""
    return _built(message).dgram


def _built(message: Message) -> OscMessage:
    builder = OscMessageBuilder(message.address)
    for value, osc_type in zip(message.values, message.types, strict=True):
        builder.add_arg(cast(Any, value), osc_type)
    return builder.build()


def read_packet(datagram: bytes, max_bytes: int = MAX_PACKET_BYTES) -> list[Message]:
    """The messages of a packet, in their order, from any depth of bundles.

    Time tags are ignored: the clocks of two computers differ, and a tag in the future would hold a command back by as
    much. Addresses are printable ASCII and begin with a slash; they may contain patterns. Numbers may be NaN and
    infinite, and strings may contain any UTF-8, control characters too.

    Values, by their type: i and h int, f and d float, s and S str, b bytes, T True, F False, N and I None, c the
    character's code, r an int of 32 bits, m four bytes as ints, t (UTC as datetime, fraction of its second in 2^-32 s),
    and [...] a list.
    Raises PacketError, and nothing else, if the packet is malformed, larger than max_bytes, of other types, or nested
    deeper than 8. The slowest 64 kB known, 5,400 messages of 8 bytes, take 25 ms.
    """
    if not datagram:
        raise PacketError("The packet is empty.")
    if len(datagram) > max_bytes:
        raise PacketError(f"Expected at most {max_bytes} bytes, got {len(datagram)}.")
    if len(datagram) % 4:
        raise PacketError(f"The packet has {len(datagram)} bytes; OSC's have a multiple of 4.")
    return [_message(element) for element in _message_elements(datagram, 1)]


def _message_elements(data: bytes, depth: int) -> Iterator[bytes]:
    """The bytes of each message of a bundle, or of the one message that `data` is.

    Not by python-osc, whose parser of bundles sorts by time, recurses without a limit, and does not end if an
    element's size is -4.
    """
    if not data.startswith(_BUNDLE):
        yield data
        return
    if depth > _MAX_DEPTH:
        raise PacketError(f"Bundles are nested deeper than {_MAX_DEPTH}.")
    if len(data) < _BUNDLE_HEAD_BYTES:
        raise PacketError("A bundle ends before its time tag does.")
    at = _BUNDLE_HEAD_BYTES
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4
        if size <= 0 or size % 4:
            raise PacketError(f"An element of a bundle has a size of {size} bytes.")
        if size > len(data) - at:
            raise PacketError(f"An element of a bundle has a size of {size} bytes where {len(data) - at} are left.")
        yield from _message_elements(data[at : at + size], depth + 1)
        at += size


def _message(data: bytes) -> Message:
    """Raises PacketError."""
    address, at = _string(data, 0)
    if not address.startswith(b"/"):
        raise PacketError(f"Expected an address that begins with a slash, got {_shown(data)}.")
    if not address.isascii() or not address.decode("ascii").isprintable():
        raise PacketError(f"The address {_shown(address)} is not printable ASCII.")
    # Old senders omit the type tags if there is no value.
    if at == len(data):
        return Message(address.decode("ascii"), "", ())
    tags, values_at = _string(data, at)
    if not tags.startswith(b","):
        raise PacketError(f"Expected type tags that begin with a comma, got {_shown(tags)}.")
    _check_values(data, tags[1:], values_at)
    known = tags.translate(_AS_PYTHON_OSC_HAS_IT)
    try:
        (timed,) = OscPacket(_ANY_ADDRESS + known + bytes(4 - len(known) % 4) + data[values_at:]).messages
    except UnicodeDecodeError:
        raise PacketError("A string is not UTF-8.") from None
    except ParseError as error:
        raise PacketError("The message cannot be read.") from error
    return Message(address.decode("ascii"), tags[1:].decode("ascii"), tuple(timed.message.params))


def _check_values(data: bytes, tags: bytes, at: int) -> None:
    """Raises PacketError unless the values from `at` on are of known types and end with the message.

    python-osc does not check that: it completes a number that is cut off, skips unknown types, and reads a blob of
    negative size backwards.
    """
    depth = 0
    for letter in tags.decode("latin-1"):
        if letter in _FIXED_BYTES:
            at += _FIXED_BYTES[letter]
            depth += (letter == "[") - (letter == "]")
            if not 0 <= depth <= _MAX_DEPTH:
                deep = f"Arrays are nested deeper than {_MAX_DEPTH}."
                raise PacketError("An array ends that did not begin." if depth < 0 else deep)
        elif letter in "sS":
            _, at = _string(data, at)
        elif letter == "b":
            size = int.from_bytes(data[at : at + 4], "big", signed=True)
            if size < 0:
                raise PacketError(f"A blob has a size of {size} bytes.")
            at += 4 + size + -size % 4
        else:
            raise PacketError(f"The type {_shown(letter.encode('latin-1'))} is unknown.")
        if at > len(data):
            raise PacketError("The message ends before its values do.")
    if depth:
        raise PacketError("An array does not end.")
    if at < len(data):
        raise PacketError(f"{len(data) - at} bytes follow the message's last value.")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """The string that begins at `at`, a multiple of 4, and the index after its padding."""
    end = data.find(b"\0", at)
    if end < 0:
        raise PacketError("A string does not end.")
    return data[at:end], (end // 4 + 1) * 4


def _shown(data: bytes) -> str:
    """The first bytes, escaped so that they are harmless on a terminal."""
    return ascii(data[:16].decode("latin-1"))
