"""Encoding and decoding against the specification, and other programs. Damaged packets: test_hostile.py."""

from __future__ import annotations

import datetime
import logging
import math
import re
import shutil
import socket
import struct
import subprocess
from threading import Thread

import osc_corpus
import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_corpus import BAD, GOOD, STRANGE, bundle, message, string

from realtime_mer.osc.messages import Message, PacketError, packet, read_packet

GENEROUS_S = 20.0
INT32 = st.integers(-(2**31), 2**31 - 1)
FLOAT32 = st.floats(width=32)
# The characters that an OSC address may have, and strings without NUL.
ADDRESSES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map("/{}".format)
STRINGS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)

FORMS = {"i": ">i", "c": ">i", "f": ">f", "h": ">q", "d": ">d", "r": ">I", "m": "4B"}


def unpacked(letter: str) -> st.SearchStrategy[tuple[bytes, object]]:
    n_bytes = struct.calcsize(FORMS[letter])

    def with_value(bits: bytes) -> tuple[bytes, object]:
        values = struct.unpack(FORMS[letter], bits)
        return bits, values if letter == "m" else values[0]

    return st.binary(min_size=n_bytes, max_size=n_bytes).map(with_value)


# The bytes of a value, as in the specification, and the value.
SINGLE_VALUES: dict[str, st.SearchStrategy[tuple[bytes, object]]] = {
    **dict.fromkeys("sS", STRINGS.map(lambda text: (string(text), text))),
    "b": st.binary(max_size=9).map(lambda data: (osc_corpus.blob(data), data)),
    **{letter: st.just((b"", value)) for letter, value in zip("TFNI", (True, False, None, None), strict=True)},
    **{letter: unpacked(letter) for letter in FORMS},
}


@st.composite
def encoded_values(draw: st.DrawFn) -> tuple[str, bytes, list[object]]:
    """Types, the bytes of the values as in the specification, and the values."""
    types, data = "", b""
    arrays: list[list[object]] = [[]]
    for letter in draw(st.lists(st.sampled_from([*SINGLE_VALUES, *"[]"]), max_size=12)):
        if letter == "[" and len(arrays) <= 8:
            arrays.append([])
            arrays[-2].append(arrays[-1])
        elif letter == "]" and len(arrays) > 1:
            arrays.pop()
        elif letter in SINGLE_VALUES:
            bits, value = draw(SINGLE_VALUES[letter])
            data += bits
            arrays[-1].append(value)
        else:
            continue
        types += letter
    return types + "]" * (len(arrays) - 1), data, arrays[0]


ENCODED = st.tuples(ADDRESSES, encoded_values())


def same(left: object, right: object) -> bool:
    """Equal, of the same kind, and a NaN like another."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


# --- out ---


def test_a_packet_is_the_bytes_of_the_specification() -> None:
    packed = packet([Message("/mer/va", "ff", (1.0, -2.0)), Message("/mer/status/source", "s", ("lost",))])
    assert packed == (
        b"#bundle\0" + b"\0\0\0\0\0\0\0\1"
        b"\0\0\0\x14" + b"/mer/va\0" + b",ff\0" + b"\x3f\x80\0\0" + b"\xc0\0\0\0"
        b"\0\0\0\x20" + b"/mer/status/source\0\0" + b",s\0\0" + b"lost\0\0\0\0"
    )


@given(st.lists(st.tuples(ADDRESSES, st.lists(FLOAT32 | INT32 | STRINGS, max_size=5)), max_size=6))
def test_a_packet_is_one_bundle_of_what_was_given(contents: list[tuple[str, list[float | int | str]]]) -> None:
    def encode(address: str, values: list[float | int | str]) -> tuple[Message, bytes]:
        types, data = "", b""
        for value in values:
            letter = {float: "f", int: "i", str: "s"}[type(value)]
            data += string(value) if isinstance(value, str) else struct.pack(f">{letter}", value)
            types += letter
        return Message(address, types, tuple(values)), message(address, types, data)

    encoded = [encode(address, values) for address, values in contents]
    assert packet([m for m, _ in encoded]) == bundle(*(data for _, data in encoded))


# --- in ---


@pytest.mark.parametrize("seconds", [(0, 4_000_000_000, 2**32 - 1), (2**32 - 1, 4_000_000_000, 0)])
def test_bundles_in_bundles_are_flat_and_in_order_for_all_times(seconds: tuple[int, int, int]) -> None:
    one, two, three = (struct.pack(">II", second, 0) for second in seconds)
    a, b, c, d, e, f = (message(f"/{letter}") for letter in "abcdef")
    inner = bundle(b, bundle(c, time_tag=three), d, time_tag=two)
    data = bundle(a, inner, bundle(), bundle(e, time_tag=one), f, time_tag=two)
    assert [m.address for m in read_packet(data)] == ["/a", "/b", "/c", "/d", "/e", "/f"]


@given(st.lists(ENCODED, min_size=1, max_size=5), st.integers(0, 7))
def test_what_the_specification_encodes_is_read(
    contents: list[tuple[str, tuple[str, bytes, list[object]]]], n: int
) -> None:
    data = osc_corpus.nested(n, bundle(*(message(address, types, values) for address, (types, values, _) in contents)))
    read = read_packet(data)
    assert [(m.address, m.types) for m in read] == [(address, types) for address, (types, *_) in contents]
    assert same([list(m.values) for m in read], [values for _, (*_, values) in contents])


REASONS = {
    "empty": "is empty",
    "text": "33 bytes; OSC's have a multiple of 4",
    "no slash": "an address that begins with a slash, got 'mer/control/ping'",
    "address with a control character": r"'/mer/\x1b[2Jcontrol' is not printable ASCII",
    "no comma": "type tags that begin with a comma, got 'fi'",
    "unknown type beside a known one": "type 'Q' is unknown",
    "second float missing": "message ends before its values do",
    "values without a type": "4 bytes follow the message's last value",
    "string without end": "string does not end",
    "string that is no UTF-8": "string is not UTF-8",
    "blob of negative size": "blob has a size of -4 bytes",
    "array that does not end": "array does not end",
    "array that did not begin": "array ends that did not begin",
    "arrays nested 9 deep": "Arrays are nested deeper than 8",
    "bundles nested 100 deep": "Bundles are nested deeper than 8",
    "bundle with half a time tag": "bundle ends before its time tag does",
    "element of size -4": "element of a bundle has a size of -4 bytes",
    "element larger than its bundle": "element of a bundle has a size of 1000 bytes where 24 are left",
}


def test_bad_packets_are_refused_with_a_reason_and_strange_ones_are_read(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        for name, data in BAD.items():
            with pytest.raises(PacketError, match=re.escape(REASONS.get(name, "."))) as caught:
                read_packet(data)
            reason = str(caught.value)
            assert reason.endswith("."), name
            assert len(reason) < 120, name
            assert reason.isprintable(), name
        for data in STRANGE.values():
            assert all(m.address.startswith("/") for m in read_packet(data))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "types", "values"),
    [
        ("NaN", "f", (math.nan,)),
        ("negative infinity", "f", (-math.inf,)),
        ("denormal", "f", (2.0**-149,)),
        ("double", "d", (30.1,)),
        ("int64", "h", (-(2**63),)),
        ("largest int", "i", (2**31 - 1,)),
        ("booleans and nothing", "TFNI", (True, False, None, None)),
        ("character of no Unicode", "c", (-1,)),
        ("colour", "r", (0xFF800001,)),
        ("MIDI", "m", ((1, 0x90, 60, 127),)),
        # NTP's seconds count from 1900; Unix's begin 2208988800 s later.
        ("time tag", "t", ((datetime.datetime(1970, 1, 1), 2**31),)),
        ("array", "i[f[s]T]", (1, [2.0, ["x"], True])),
        ("arrays nested 8 deep", "[" * 8 + "]" * 8, ([[[[[[[[]]]]]]]],)),
        ("13000 values", "i" * 13_000, (0,) * 13_000),
        ("60000 values without a byte", "T" * 60_000, (True,) * 60_000),
        ("string that writes on a terminal", "s", ("\x1b]0;mine\x07\x1b[2J\x9b1m\r\n",)),
        ("string in UTF-8", "s", ("Bühne ♫ 音",)),
        ("symbol", "S", ("spring",)),
        ("blob", "b", (b"\0\x01\xff#/",)),
        ("padding that is no zero", "i", (7,)),
    ],
)
def test_every_type_has_its_value(name: str, types: str, values: tuple[object, ...]) -> None:
    (read,) = read_packet(STRANGE[name])
    assert read.types == types
    assert same(read.values, values)


def test_depths_and_counts_up_to_the_limit() -> None:
    assert read_packet(STRANGE["bundles nested 8 deep"]) == [Message("/mer/control/ping", "", ())]
    assert read_packet(STRANGE["3200 empty bundles"]) == []
    assert read_packet(STRANGE["8000 smallest messages"]) == [Message("/", "", ())] * 8000
    assert read_packet(GOOD, max_bytes=len(GOOD)) == read_packet(GOOD)
    with pytest.raises(PacketError, match=f"Expected at most {len(GOOD) - 1} bytes, got {len(GOOD)}"):
        read_packet(GOOD, max_bytes=len(GOOD) - 1)


# --- an encoder that we did not write ---


@pytest.mark.parametrize(
    ("types", "arguments", "values"),
    [
        ("", [], ()),
        ("TFNI", [], (True, False, None, None)),
        ("iTfsdh", ["1", "nan", "Bühne ♫", "2.5", "-9000000000"], (1, True, math.nan, "Bühne ♫", 2.5, -9_000_000_000)),
        ("Scm", ["symbol", "x", "01903c7f"], ("symbol", 120, (1, 0x90, 60, 127))),
    ],
)
def test_liblos_oscsend_is_read(types: str, arguments: list[str], values: tuple[object, ...]) -> None:
    oscsend = shutil.which("oscsend")
    if oscsend is None:
        pytest.skip("no oscsend on this machine: this test needs an independent OSC sender (Debian's liblo-tools)")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(GENEROUS_S)
        command = [oscsend, "127.0.0.1", str(receiver.getsockname()[1]), "/mer/some/where", *([types] if types else [])]
        sending = Thread(target=subprocess.run, args=([*command, *arguments],), kwargs={"check": True})
        sending.start()
        (read,) = read_packet(receiver.recv(65_536))
        sending.join(GENEROUS_S)
    assert (read.address, read.types) == ("/mer/some/where", types)
    assert same(read.values, values)
