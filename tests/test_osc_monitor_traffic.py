from __future__ import annotations

import itertools
import math
import statistics
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_corpus import STRANGE, blob, message, string

from realtime_mer.osc.messages import Message, read_packet
from realtime_mer.osc_monitor.traffic import (
    MOST_ADDRESSES,
    MOST_SENDERS,
    WINDOW_S,
    Intervals,
    Picture,
    Refusal,
    Timing,
    Traffic,
    content,
    line,
)

SENDER = "127.0.0.1:5000"


def ping(address: str = "/a") -> Message:
    return Message(address, "i", (7,))


def heard(*times_s: float, start_s: float = 0.0) -> Traffic:
    traffic = Traffic(start_s)
    for time_s in times_s:
        traffic.heard(time_s, SENDER, [ping()])
    return traffic


def timing(*times_s: float) -> Timing:
    intervals = Intervals()
    for time_s in times_s:
        intervals.arrived(time_s)
    return intervals.timing()


def numbers(measured: Timing) -> tuple[float, float, float]:
    assert measured.rate_hz is not None
    assert measured.jitter_ms is not None
    assert measured.gap_ms is not None
    return measured.rate_hz, measured.jitter_ms, measured.gap_ms


# --- timing ---


def test_what_is_regular_has_a_rate_and_no_jitter() -> None:
    assert numbers(timing(*(100 + k / 8 for k in range(33)))) == (8.0, 0.0, 125.0)


def test_intervals_that_alternate_jitter_by_half_their_difference() -> None:
    times_s = [1000.0]
    for k in range(40):
        times_s.append(times_s[-1] + (0.09 if k % 2 else 0.11))
    assert numbers(timing(*times_s)) == pytest.approx((10.0, 10.0, 110.0))


def test_one_gap_among_regular_messages() -> None:
    """99 intervals of 1/100 s and one of 1/2 s: the variance is (1/100)(99/100)(0.49 s)²."""
    times_s = [k / 100 for k in range(51)] + [1.0 + k / 100 for k in range(50)]
    rate_hz, jitter_ms, gap_ms = numbers(timing(*times_s))
    assert rate_hz == pytest.approx(100 / 1.49)
    assert jitter_ms == pytest.approx(490 * math.sqrt(99) / 100)
    assert gap_ms == pytest.approx(500)


def test_too_few_messages_tell_nothing() -> None:
    assert timing() == timing(3.0) == Timing(None, None, None)
    assert timing(3.0, 3.5) == Timing(2.0, None, 500.0)
    assert timing(3.0, 3.5, 4.0) == Timing(2.0, 0.0, 500.0)
    # Twice in one bundle.
    assert timing(3.0, 3.0) == Timing(None, None, 0.0)


@given(st.lists(st.floats(0, 100), min_size=3, max_size=40), st.floats(0, 1e6))
def test_timing_is_that_of_the_textbook(intervals_s: list[float], start_s: float) -> None:
    times_s = [start_s]
    for interval_s in intervals_s:
        times_s.append(times_s[-1] + interval_s)
    exact_s = [after - before for before, after in itertools.pairwise(times_s)]
    measured = timing(*times_s)
    assert measured.jitter_ms == pytest.approx(1000 * statistics.pstdev(exact_s), abs=1e-6)
    assert measured.gap_ms == pytest.approx(1000 * max(exact_s))
    if sum(exact_s) > 1e-3:
        assert measured.rate_hz == pytest.approx(len(exact_s) / sum(exact_s))


def test_the_recent_timing_forgets_and_the_whole_does_not() -> None:
    slow = [k / 4 for k in range(40)]
    fast = [10 + k / 16 for k in range(int(WINDOW_S * 16) + 1)]
    (row,) = heard(*slow, *fast).picture(fast[-1]).rows
    assert numbers(row.recent) == (16.0, 0.0, 62.5)
    n = len(slow) + len(fast) - 1
    assert row.whole.rate_hz == pytest.approx(n / (fast[-1] - slow[0]))
    assert row.whole.gap_ms == 250.0


def test_what_has_stopped_has_no_rate_but_an_age() -> None:
    traffic = heard(*(k / 10 for k in range(21)))
    (row,) = traffic.picture(2.5).rows
    assert row.recent.rate_hz == pytest.approx(10)
    assert row.age_s == 0.5
    (row,) = traffic.picture(2.0 + WINDOW_S + 0.05).rows
    assert row.recent == Timing(None, None, None)
    assert row.age_s == pytest.approx(WINDOW_S + 0.05)
    assert row.count == 21
    assert row.whole.rate_hz == pytest.approx(10)


# --- counts ---


def test_everything_is_counted() -> None:
    traffic = Traffic(100.0)
    traffic.heard(101.0, "10.0.0.1:1", [ping("/b"), ping("/a")])
    traffic.heard(102.0, "10.0.0.2:1", [Message("/b", "f", (0.5,))])
    traffic.heard(102.0, "10.0.0.2:1", [])
    traffic.refused(103.0, "10.0.0.3:1", "Not this.")
    traffic.refused(104.0, "10.0.0.4:1", "Nor that.")
    traffic.dropped(5)
    traffic.dropped(2)
    picture = traffic.picture(106.0)
    rows = picture.rows
    assert [(row.address, row.content, row.count, row.age_s) for row in rows] == [
        ("/a", "i 7", 1, 5.0),
        ("/b", "f 0.5", 2, 4.0),
    ]
    assert picture == Picture(
        time_s=6.0,
        packets=3,
        messages=3,
        malformed=2,
        refusal=Refusal(2.0, "10.0.0.4:1", "Nor that."),
        dropped=7,
        others=0,
        senders=(("10.0.0.2:1", 2), ("10.0.0.1:1", 1)),
        n_senders=2,
        n_addresses=2,
        first=0,
        rows=rows,
    )


def test_before_anything_came() -> None:
    picture = Traffic(5.0).picture(7.0)
    assert (picture.time_s, picture.packets, picture.rows, picture.senders, picture.refusal) == (2.0, 0, (), (), None)


def test_a_picture_may_be_of_some_addresses_only() -> None:
    traffic = Traffic(0.0)
    traffic.heard(1.0, SENDER, [ping(f"/{letter}") for letter in "edcba"])
    picture = traffic.picture(1.0, first=3, most=3)
    assert (picture.n_addresses, picture.first) == (5, 3)
    assert [row.address for row in picture.rows] == ["/d", "/e"]


def test_further_addresses_are_counted_only() -> None:
    traffic = Traffic(0.0)
    for k in range(MOST_ADDRESSES + 20):
        traffic.heard(k, SENDER, [ping(f"/{k:04}")])
    traffic.heard(1e4, SENDER, [ping("/0000"), ping("/0519")])
    picture = traffic.picture(1e4)
    assert picture.n_addresses == len(picture.rows) == MOST_ADDRESSES
    assert picture.others == 21
    assert picture.messages == MOST_ADDRESSES + 22
    assert picture.rows[0].count == 2


def test_of_the_senders_those_that_are_silent_longest_are_forgotten() -> None:
    traffic = Traffic(0.0)
    for k in range(MOST_SENDERS):
        traffic.heard(k, f"10.0.0.1:{k}", [ping()])
    traffic.heard(200.0, "10.0.0.1:0", [ping()])
    traffic.heard(201.0, "10.0.0.2:1", [ping()])
    traffic.heard(202.0, "10.0.0.2:2", [ping()])
    picture = traffic.picture(202.0)
    assert picture.n_senders == MOST_SENDERS + 2
    assert len(picture.senders) == MOST_SENDERS
    assert picture.senders[0] == ("10.0.0.1:0", 2)
    kept = dict(picture.senders)
    assert {"10.0.0.2:1", "10.0.0.2:2", "10.0.0.1:3"} <= set(kept)
    assert not {"10.0.0.1:1", "10.0.0.1:2"} & set(kept)


def test_memory_is_bounded_whatever_comes() -> None:
    traffic = Traffic(0.0)
    tracemalloc.start()
    try:
        for k in range(2000):
            long = Message(f"/{k}" + "x" * 60_000, "sib", ("y" * 60_000, k, b"z" * 60_000))
            traffic.heard(k / 1000, f"10.0.0.1:{k}", [long])
        for k in range(50_000):
            traffic.heard(2 + k / 1e6, SENDER, [ping("/0" + "x" * 60_000)])
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    picture = traffic.picture(3.0)
    assert (picture.n_addresses, picture.others) == (MOST_ADDRESSES, 2000 - MOST_ADDRESSES)
    assert max(len(row.address) for row in picture.rows) == 200
    assert max(len(row.content) for row in picture.rows) == 120
    assert max(len(row.arrivals_s) for row in picture.rows) == 1024
    assert picture.rows[0].count == 50_001
    assert kept_bytes < 5e6


# --- words ---


@pytest.mark.parametrize(
    ("types", "values", "words"),
    [
        ("", b"", ""),
        ("f", struct.pack(">f", 0.123), "f 0.123"),
        ("ff", struct.pack(">ff", -1.0, 1e-7), "ff -1 1e-07"),
        ("f", b"\x7f\xc0\0\0", "f nan"),
        ("f", b"\xff\x80\0\0", "f -inf"),
        ("d", struct.pack(">d", 0.1234567891), "d 0.1234567891"),
        ("ih", struct.pack(">iq", -7, 2**40), "ih -7 1099511627776"),
        ("s", string("lost"), 's "lost"'),
        ("s", string(""), 's ""'),
        ("s", string('two "words"\n'), r's "two \"words\"\n"'),
        ("S", string("Bühne"), 'S "Bühne"'),
        ("TFNI", b"", "TFNI true false nil impulse"),
        ("b", blob(b"\0\xffab"), "b (4 bytes) 00ff6162"),
        ("b", blob(b""), "b (0 bytes)"),
        ("b", blob(bytes(17)), "b (17 bytes) " + "0" * 29 + "..."),
        ("m", b"\x01\x90\x3c\x7f", "m 01903c7f"),
        ("r", b"\xff\x80\0\x01", "r #ff800001"),
        ("c", struct.pack(">i", 120), "c 120"),
        ("t", struct.pack(">II", 2_208_988_800, 2**31), "t 1970-01-01T00:00:00.500Z"),
        ("i[f[]s]T", struct.pack(">if", 1, 0.5) + string("x"), 'i[f[]s]T 1 [ 0.5 [ ] "x" ] true'),
    ],
)
def test_values_in_words(types: str, values: bytes, words: str) -> None:
    (read,) = read_packet(message("/a", types, values))
    assert content(read) == words


@pytest.mark.parametrize("name", STRANGE)
def test_whatever_can_come_has_words_that_are_not_long(name: str) -> None:
    for read in read_packet(STRANGE[name])[:10]:
        assert len(content(read)) <= 120
        told = line(1.0, SENDER, read)
        assert told.startswith(f"1.000 {SENDER} /")
        assert len(told) < 400


def test_what_is_long_ends_in_dots() -> None:
    (read,) = read_packet(STRANGE["13000 values"])
    assert content(read).startswith("i" * 27 + "... 0 0 0 0")
    assert content(read).endswith(" 0 0 ...")
    assert len(content(read)) == 120
    (read,) = read_packet(STRANGE["string of 60 kB"])
    assert content(read) == 's "' + "x" * 114 + "..."


def test_a_line() -> None:
    assert line(12.3449, "127.0.0.1:53211", Message("/mer/valence", "f", (0.123,))) == (
        "12.345 127.0.0.1:53211 /mer/valence f 0.123"
    )
    assert line(0.0, "[::1]:1", Message("/mer/control/ping", "", ())) == "0.000 [::1]:1 /mer/control/ping"
