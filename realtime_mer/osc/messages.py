"""OSC 1.0's encoding, https://opensoundcontrol.stanford.edu/spec-1_0.html, by python-osc; and what is trusted of it."""

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
# Of bundles in bundles, and of arrays in arrays: what reads, compares or shows them recurses.
_MAX_DEPTH = 8
_BUNDLE = b"#bundle\0"
_BUNDLE_HEAD_BYTES = len(_BUNDLE) + 8
# How many bytes a value takes, where its type says so.
_FIXED_BYTES = {**dict.fromkeys("TFNI[]", 0), **dict.fromkeys("ifcrm", 4), **dict.fromkeys("hdt", 8)}
_ANY_ADDRESS = b"/\0\0\0"
# What python-osc would skip with a line in the log, as the type that takes the same bytes.
_AS_PYTHON_OSC_HAS_IT = bytes.maketrans(b"ScI", b"siN")


class PacketError(ValueError):
    """Bytes that are no OSC packet, or one that goes beyond what is taken here. Its text says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One OSC message. types: a letter for each value: f (32-bit float), i (32-bit integer) or s (ASCII string); in a
    message that came in, also what else OSC has, with the brackets of arrays."""

    address: str
    types: str
    values: tuple[object, ...]


def packet(messages: Sequence[Message]) -> bytes:
    """The messages as one bundle to be acted on at once."""
    bundle = OscBundleBuilder(IMMEDIATELY)
    for message in messages:
        bundle.add_content(_built(message))
    return bundle.build().dgram


def message_packet(message: Message) -> bytes:
    """The message alone, in no bundle."""
    return _built(message).dgram


def _built(message: Message) -> OscMessage:
    builder = OscMessageBuilder(message.address)
    for value, osc_type in zip(message.values, message.types, strict=True):
        builder.add_arg(cast(Any, value), osc_type)
    return builder.build()


def read_packet(datagram: bytes, max_bytes: int = MAX_PACKET_BYTES) -> list[Message]:
    """The messages of a packet, in the order in which they stand there, from whatever depth of bundles.

    Bundles' time tags are ignored, since everything is acted on at once: clocks of two computers differ, and a tag
    that lies ahead would hold a command back by as much. Addresses are printable ASCII from a slash on; they may hold
    patterns. Of numbers every value passes, NaN and infinity too, and of strings all UTF-8, control characters too.

    Values, by their type: i and h int, f and d float, s and S str, b bytes, T True, F False, N and I None, c the
    character's code, r an int of 32 bits, m four bytes as ints, t (UTC as datetime, fraction of its second in 2^-32 s),
    and [...] a list.
    Raises PacketError, and nothing else, for what is malformed, larger than max_bytes, of other types, or nested deeper
    than 8. The slowest 64 kB that we could make up, 5,400 messages of 8 bytes, take 25 ms.
    """
    if not datagram:
        raise PacketError("The packet is empty.")
    if len(datagram) > max_bytes:
        raise PacketError(f"The packet has {len(datagram)} bytes; at most {max_bytes} are taken.")
    if len(datagram) % 4:
        raise PacketError(f"The packet has {len(datagram)} bytes; OSC's have a multiple of 4.")
    return [_message(element) for element in _message_elements(datagram, 1)]


def _message_elements(data: bytes, depth: int) -> Iterator[bytes]:
    """The messages' bytes, of a bundle or of the one message that `data` is.

    Taken apart here: python-osc's parser of bundles sorts by time, recurses as deep as a packet wants, and does not
    come to its end where an element's size is -4.
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
        raise PacketError(f"An address begins with a slash, not as {_shown(data)} does.")
    if not address.isascii() or not address.decode("ascii").isprintable():
        raise PacketError(f"The address {_shown(address)} is not printable ASCII.")
    # Old senders leave the type tags out where there is no value.
    if at == len(data):
        return Message(address.decode("ascii"), "", ())
    tags, values_at = _string(data, at)
    if not tags.startswith(b","):
        raise PacketError(f"Type tags begin with a comma, not as {_shown(tags)} does.")
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
    """That the values from `at` on are of known types and end with the message, which python-osc does not see to:
    it fills up a number that is cut off, skips unknown types, and reads a blob of negative size backwards."""
    depth = 0
    for letter in tags.decode("latin-1"):
        if letter in _FIXED_BYTES:
            at += _FIXED_BYTES[letter]
            depth += (letter == "[") - (letter == "]")
            if not 0 <= depth <= _MAX_DEPTH:
                deep = f"Arrays are nested deeper than {_MAX_DEPTH}."
                raise PacketError("An array ends that has not begun." if depth < 0 else deep)
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
    """The string that begins at `at`, a multiple of 4, and where what follows it begins."""
    end = data.find(b"\0", at)
    if end < 0:
        raise PacketError("A string does not end.")
    return data[at:end], (end // 4 + 1) * 4


def _shown(data: bytes) -> str:
    """A few bytes for people; nothing in it does anything to a terminal."""
    return ascii(data[:16].decode("latin-1"))
