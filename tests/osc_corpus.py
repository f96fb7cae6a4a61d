"""Packets that may arrive from an untrusted network: BAD ones, and STRANGE ones that OSC 1.0 still allows.

Written by hand from the specification, without the code under test.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

IMMEDIATELY = struct.pack(">Q", 1)
LARGEST_UDP_BYTES = 65_507


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return data + b"\0" * (4 - len(data) % 4)


def blob(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data + b"\0" * (-len(data) % 4)


def message(address: str | bytes, tags: str | bytes = "", values: bytes = b"") -> bytes:
    """tags: without their comma."""
    tags = tags.encode() if isinstance(tags, str) else tags
    return string(address) + string(b"," + tags) + values


def bundle(*elements: bytes, time_tag: bytes = IMMEDIATELY) -> bytes:
    return b"#bundle\0" + time_tag + b"".join(struct.pack(">i", len(element)) + element for element in elements)


def nested(depth: int, innermost: bytes) -> bytes:
    """A bundle in a bundle in a bundle …"""
    for _ in range(depth):
        innermost = bundle(innermost)
    return innermost


def _sized(size: int, content: bytes) -> bytes:
    """A bundle whose element has this size field."""
    return b"#bundle\0" + IMMEDIATELY + struct.pack(">i", size) + content


RATE = message("/mer/control/rate", "fi", struct.pack(">fi", 30.0, 1))
SMOOTHING = message("/mer/control/smoothing", "sf", string("spring") + struct.pack(">f", 0.5))
PING = message("/mer/control/ping")
GOOD = bundle(RATE, SMOOTHING, PING)


def _cut() -> Iterator[tuple[str, bytes]]:
    """Good packets cut off, except where the rest is still valid: the first elements of a bundle, or an address."""
    whole = {0, len(string("/mer/control/rate"))}
    for end in range(len(RATE)):
        if end not in whole:
            yield f"message cut at {end}", RATE[:end]
    whole = {0, *(len(bundle(*(RATE, SMOOTHING, PING)[:n])) for n in range(4))}
    for end in range(len(GOOD)):
        if end not in whole:
            yield f"bundle cut at {end}", GOOD[:end]


def _noise() -> Iterator[tuple[str, bytes]]:
    """Random bytes, some after the beginning of a message or a bundle. With this seed, none of them is a packet."""
    source = random.Random(4)
    for size in (1, 3, 4, 12, 16, 20, 64, 100, 1000, 4096, 65_000):
        noise = source.randbytes(size)
        yield f"{size} random bytes", noise
        yield f"{size} random bytes after an address", string("/mer/control/rate") + noise
        yield f"{size} random bytes after type tags", message("/mer/control/rate", "fi") + noise
        yield f"{size} random bytes in a bundle", b"#bundle\0" + IMMEDIATELY + noise
        yield f"{size} random bytes as an element", bundle(noise)


BAD: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(64),
    "text": b"GET / HTTP/1.1\r\nHost: stage\r\n\r\n\0\0",
    "65508 bytes": message("/mer/control/mark", "s", string("x" * (LARGEST_UDP_BYTES - 27))),
    "1 MB": message("/mer/control/mark", "s", string("x" * 1_000_000)),
    # Addresses.
    "no slash": message("mer/control/ping"),
    "address without end": b"/mer/control/ping/now" + b"x" * 3,
    "address with a control character": message("/mer/\x1b[2Jcontrol"),
    "address in UTF-8": message("/mer/control/stöp"),
    "address in Latin-1": message(b"/mer/control/st\xf6p"),
    "bundle's name without its end": b"#bundles" + IMMEDIATELY,
    # Type tags.
    "no comma": string("/mer/control/rate") + string("fi") + struct.pack(">fi", 30.0, 1),
    "no type tags": string("/mer/control/rate") + struct.pack(">f", 30.0),
    "type tags without end": string("/mer/control/rate") + b",fff" + b"ffff",
    "unknown type beside a known one": message("/mer/control/rate", "fQ", struct.pack(">f", 30.0)),
    "60 kB of type tags without a value": message("/mer/control/rate", "f" * 60_000),
    # Values.
    "float missing": message("/mer/control/rate", "f"),
    "second float missing": message("/mer/control/rate", "ff", struct.pack(">f", 30.0)),
    "half a double": message("/mer/control/rate", "d", bytes(4)),
    "half an int64": message("/mer/control/rate", "h", bytes(4)),
    "string without end": message("/mer/control/device", "s", b"microphones!"),
    "string that is no UTF-8": message("/mer/control/device", "s", string(b"B\xfchne")),
    "string with a surrogate": message("/mer/control/device", "s", string(b"\xed\xa0\x80")),
    "values without a type": message("/mer/control/rate", "f", struct.pack(">ff", 30.0, 30.0)),
    "blob larger than the packet": message("/mer/control/mark", "b", struct.pack(">i", 1000) + bytes(8)),
    "blob of 2 GB": message("/mer/control/mark", "b", struct.pack(">i", 2**31 - 1) + bytes(8)),
    "blob of negative size": message("/mer/control/mark", "bi", struct.pack(">i", -4)),
    "array that does not end": message("/mer/control/rate", "[f", struct.pack(">f", 30.0)),
    "array after 60000 values that does not end": message("/mer/control/rate", "T" * 60_000 + "["),
    "array that did not begin": message("/mer/control/rate", "f]", struct.pack(">f", 30.0)),
    "arrays nested 9 deep": message("/mer/control/rate", "[" * 9 + "]" * 9),
    "arrays nested 30000 deep": message("/mer/control/rate", "[" * 30_000 + "]" * 30_000),
    # Bundles.
    "bundle without time tag": b"#bundle\0",
    "bundle with half a time tag": b"#bundle\0" + bytes(4),
    "element's size missing its element": _sized(28, b""),
    "element larger than its bundle": _sized(1000, PING),
    "element of size -4": _sized(-4, PING),
    "element of size 0": _sized(0, PING),
    "element whose size is no multiple of 4": _sized(len(PING) - 1, PING),
    "16000 empty elements": b"#bundle\0" + IMMEDIATELY + bytes(64_000),
    "element that is neither message nor bundle": bundle(b"ping" * 3),
    "bad element after a good one": bundle(PING, message("/mer/control/rate", "f")),
    "good element after a bad one": bundle(message("/mer/control/rate", "f"), PING),
    "element larger than its inner bundle": bundle(_sized(len(PING) + 4, PING), PING),
    "bundles nested 9 deep": nested(9, PING),
    "bundles nested 100 deep": nested(100, PING),
    "bundles nested 3200 deep": nested(3200, PING),
    **dict(_cut()),
    **dict(_noise()),
}

STRANGE: dict[str, bytes] = {
    "no type tags and no value": string("/mer/control/ping"),
    "pattern for an address": message("/mer/{control,status}/p?[a-z]*"),
    "space in an address": message("/mer/control/ping twice"),
    "address of 60 kB": message("/" + "x" * 60_000),
    "padding that is no zero": b"/mer\0abc" + b",i\0z" + struct.pack(">i", 7),
    "NaN": message("/mer/control/rate", "f", b"\x7f\xc0\0\0"),
    "negative infinity": message("/mer/control/rate", "f", b"\xff\x80\0\0"),
    "denormal": message("/mer/control/rate", "f", b"\0\0\0\x01"),
    "negative zero": message("/mer/control/rate", "f", b"\x80\0\0\0"),
    "double": message("/mer/control/rate", "d", struct.pack(">d", 30.1)),
    "int64": message("/mer/control/rate", "h", struct.pack(">q", -(2**63))),
    "largest int": message("/mer/control/rate", "i", struct.pack(">i", 2**31 - 1)),
    "booleans and nothing": message("/mer/control/rate", "TFNI"),
    "character of no Unicode": message("/mer/control/rate", "c", struct.pack(">i", -1)),
    "symbol": message("/mer/control/smoothing", "S", string("spring")),
    "colour": message("/mer/control/rate", "r", b"\xff\x80\0\x01"),
    "MIDI": message("/mer/control/rate", "m", b"\x01\x90\x3c\x7f"),
    "time tag": message("/mer/control/rate", "t", struct.pack(">II", 2_208_988_800, 2**31)),
    "blob": message("/mer/control/mark", "b", blob(b"\0\x01\xff#/")),
    "string that writes on a terminal": message("/mer/control/mark", "s", string("\x1b]0;mine\x07\x1b[2J\x9b1m\r\n")),
    "string in UTF-8": message("/mer/control/mark", "s", string("Bühne ♫ 音")),
    "13000 values": message("/mer/control/rate", "i" * 13_000, bytes(52_000)),
    "60000 values without a byte": message("/mer/control/rate", "T" * 60_000),
    "array": message("/mer/control/rate", "i[f[s]T]", struct.pack(">if", 1, 2.0) + string("x")),
    "arrays nested 8 deep": message("/mer/control/rate", "[" * 8 + "]" * 8),
    "empty bundle": bundle(),
    "bundle for the year 2036": bundle(PING, time_tag=b"\xff" * 8),
    "bundles for times in the wrong order": bundle(
        bundle(RATE, time_tag=b"\xff" * 8), bundle(SMOOTHING, time_tag=b"\xf0" * 8), PING
    ),
    "bundles nested 8 deep": nested(8, PING),
    "3200 empty bundles": bundle(*[bundle()] * 3200),
    "8000 smallest messages": bundle(*[string("/")] * 8000),
}
