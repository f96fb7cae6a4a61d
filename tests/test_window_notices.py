from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.window.notices import Notice, Notices


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def __call__(self) -> float:
        return self.time_s


def test_a_message_lasts_for_some_seconds_and_one_about_a_fault_for_longer() -> None:
    clock = Clock()
    notices = Notices(clock)
    notices.post("Saved.")
    notices.post("The disk is full.", fault=True)
    clock.time_s += 5.9
    assert notices.current() == (Notice("Saved."), Notice("The disk is full.", fault=True))
    clock.time_s += 0.2
    assert notices.current() == (Notice("The disk is full.", fault=True),)
    clock.time_s += 9.0
    assert notices.current() == ()
    assert notices.dropped == 0


@given(st.text(max_size=2_000))
def test_a_message_becomes_one_short_line(text: str) -> None:
    notices = Notices()
    notices.post(text)
    (notice,) = notices.current()
    assert len(notice.text.splitlines()) <= 1
    assert len(notice.text) <= 301
    assert notice.text.rstrip("…") in " ".join(text.split())


@given(st.integers(0, 60))
def test_too_many_are_counted_and_the_last_ones_stay(n_posted: int) -> None:
    notices = Notices(Clock())
    for number in range(n_posted):
        notices.post(str(number))
    kept = [int(notice.text) for notice in notices.current()]
    assert kept == list(range(n_posted))[-16:]
    assert notices.dropped + len(kept) == n_posted


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns much more often than usual."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def test_any_threads_may_post_while_somebody_looks(hasty_threads: None) -> None:
    notices = Notices()

    def post() -> None:
        for _ in range(2_000):
            notices.post("text")

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(notices.current()) <= 16
    assert notices.dropped + len(notices.current()) == 8_000
