"""A target's thread. Times are only ever bounded from below: a busy machine may do everything later."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
from osc_sockets import GENEROUS_S, eventually

from realtime_mer.config import TargetSettings
from realtime_mer.osc.composing import Event
from realtime_mer.osc.messages import Message
from realtime_mer.osc.sender import Item, NewSmoothing, Sender
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

FRAMES = TargetSettings(send=("frame",))
FRAMES_AND_MARKS = TargetSettings(send=("frame", "event/mark"))
# Longer than anything here waits.
NEVER_S = 3600.0


def update(index: int, valence: float = 0.0) -> Update:
    return Update(index, Prediction(0.5 * index, valence, 0.0), False, None)


@dataclass
class Sent:
    """Records what a sender sends, and when."""

    bundles: list[tuple[float, list[Message]]] = field(default_factory=list)

    def __call__(self, messages: list[Message]) -> bool:
        self.bundles.append((time.monotonic(), messages))
        return True

    def wait_for(self, n_bundles: int) -> None:
        eventually(lambda: len(self.bundles) >= n_bundles)

    def numbers(self, address: str) -> list[object]:
        return [m.values[0] for _, messages in self.bundles for m in messages if m.address == address]

    @property
    def frames(self) -> list[object]:
        return self.numbers("/mer/frame")


class Blocked(Sent):
    """Stays in its first bundle until `opened` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, messages: list[Message]) -> bool:
        self.entered.set()
        assert self.opened.wait(GENEROUS_S)
        return super().__call__(messages)


@contextlib.contextmanager
def sending(target: TargetSettings, send: Callable[[list[Message]], bool], delay_s: float = 0.0) -> Iterator[Sender]:
    sender = Sender(target, send, delay_s)
    try:
        yield sender
    finally:
        sender.end()
        sender.join(GENEROUS_S)
        assert not sender._thread.is_alive()


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    made = Blocked()
    yield made
    made.opened.set()


# --- order ---


def test_everything_is_sent_in_its_order() -> None:
    sent = Sent()
    target = TargetSettings(send=("frame", "event/mark", "status/drops"))
    states = itertools.cycle([SourceState.LOST, SourceState.RUNNING])
    with sending(target, sent) as sender:
        for index in range(150):
            sender.put(update(index))
            sender.put(Event("event/mark", (index,)))
            sender.put(Status("", next(states), dropped_blocks=index))
            # The mailbox has room for over eighty rounds of events, so the thread may be late.
            sent.wait_for(3 * (index - 50))
    assert [messages for _, messages in sent.bundles] == [
        [Message(f"/mer/{name}", "i", (index,))]
        for index in range(150)
        for name in ("frame", "event/mark", "status/drops")
    ]
    assert sender.lost == 0


# --- delay ---


def test_nothing_leaves_before_its_delay_is_over_nor_out_of_order() -> None:
    sent = Sent()
    put_s = []
    with sending(FRAMES, sent, delay_s=0.2) as sender:
        for index in range(10):
            put_s.append(time.monotonic())
            sender.put(update(index))
            time.sleep(0.02)
        sent.wait_for(10)
    assert sent.frames == list(range(10))
    for (left_s, _), came_s in zip(sent.bundles, put_s, strict=True):
        assert left_s >= came_s + 0.2


def test_a_shorter_delay_holds_at_once_for_waiting_items() -> None:
    sent = Sent()
    with sending(FRAMES, sent, delay_s=NEVER_S) as sender:
        before_s = time.monotonic()
        sender.put(update(0))
        sender.put(update(1))
        # Now it sleeps for an hour.
        eventually(lambda: len(sender._waiting) == 2 and sender._mailbox.empty())
        sender.set_delay(0.3)
        eventually(lambda: sent.frames == [0, 1])
        assert sent.bundles[0][0] >= before_s + 0.3


def test_changing_the_delay_again_and_again_does_not_fill_the_mailbox(blocked: Blocked) -> None:
    with sending(FRAMES, blocked) as sender:
        sender.put(update(0))
        assert blocked.entered.wait(GENEROUS_S)
        for number in range(5000):
            sender.set_delay(0.001 * (number % 7))
        assert sender._mailbox.qsize() <= 1
        sender.put(update(1))
        blocked.opened.set()
        eventually(lambda: blocked.frames == [0, 1])


# --- smooth values ---

SMOOTH = TargetSettings(send=("smooth/valence", "event/mark"), rate_hz=50.0)


def times_s(sent: Sent) -> list[float]:
    return [left_s for left_s, messages in sent.bundles if messages[0].address.startswith("/mer/smooth/")]


def test_smooth_values_leave_on_their_grid_and_of_missed_moments_only_the_last_is_sent() -> None:
    sent = Blocked()
    with sending(SMOOTH, sent):
        assert sent.entered.wait(GENEROUS_S)
        # Twenty moments of the grid.
        time.sleep(0.4)
        released_s = time.monotonic()
        sent.opened.set()
        sent.wait_for(12)
    # The first was held up; the second is the only missed one that is sent.
    for number, left_s in enumerate(times_s(sent)[2:]):
        assert left_s >= released_s + number / 50.0 - 1e-6


def test_a_new_rate_holds_from_then_on() -> None:
    sent = Sent()
    with sending(replace(SMOOTH, rate_hz=1.0), sent) as sender:
        sender.set_rate(120.0)
        # At the old rate that would take a minute.
        sent.wait_for(60)
        sender.set_rate(10.0)
        n_before = len(sent.bundles)
        sent.wait_for(n_before + 6)
    # The next two may still be of the old grid.
    earliest_s = times_s(sent)[n_before + 1]
    for number, left_s in enumerate(times_s(sent)[n_before + 2 :], start=1):
        assert left_s >= earliest_s + (number - 1) / 10.0 - 1e-6


def test_smooth_values_wait_for_a_delayed_prediction() -> None:
    sent = Sent()
    at_once = TargetSettings(send=("smooth/valence",), rate_hz=120.0, smoothing="none")
    with sending(at_once, sent, delay_s=0.3) as sender:
        put_s = time.monotonic()
        sender.put(update(0, valence=1.0))
        eventually(lambda: sent.numbers("/mer/smooth/valence")[-1:] == [1.0])
    for left_s, (message,) in sent.bundles:
        assert message.values == (0.0,) or left_s >= put_s + 0.3


# --- limits ---


def test_a_send_that_hangs_loses_items_and_does_not_disturb_another_sender(blocked: Blocked) -> None:
    sent = Sent()
    with sending(FRAMES, blocked) as hanging, sending(FRAMES, sent) as other:
        hanging.put(update(0))
        assert blocked.entered.wait(GENEROUS_S)
        for index in range(1, 600):
            hanging.put(update(index))
            other.put(update(index))
            sent.wait_for(index - 100)
        # Losses from several threads are all counted.
        with ThreadPoolExecutor(4) as executor:
            list(executor.map(hanging.put, [update(600)] * 5000))
        eventually(lambda: sent.frames == list(range(1, 600)))
        assert other.lost == 0
        assert blocked.bundles == []
        # All but the one that is being sent, and a full mailbox.
        assert hanging.lost == 5600 - 1 - 1024
        blocked.opened.set()
        eventually(lambda: blocked.frames == [*range(600), *[600] * 425])
        hanging.put(update(5000))
        eventually(lambda: blocked.frames[-1] == 5000)
        assert hanging.lost == 5600 - 1 - 1024


def test_the_number_of_delayed_items_is_limited() -> None:
    sent = Sent()
    with sending(FRAMES, sent, delay_s=NEVER_S) as sender:
        for index in range(1200):
            sender.put(update(index))
            if index % 100 == 0:
                eventually(sender._mailbox.empty)
        eventually(lambda: len(sender._waiting) + sender.lost == 1200)
        assert len(sender._waiting) == 1024
        sender.set_delay(0.0)
        eventually(lambda: sent.frames == list(range(1024)))


def test_a_flood_of_commands_displaces_no_prediction() -> None:
    kinds: list[Callable[[int], Item]] = [
        lambda number: Event("event/mark", (number,)),
        lambda number: NewSmoothing("spring", 1.0 + number),
    ]
    sent = Sent()
    with sending(FRAMES_AND_MARKS, sent, delay_s=NEVER_S) as sender:
        # The predictions, at 20 Hz, and statuses of ten seconds, between a thousand others.
        for number in range(1000):
            sender.put(kinds[number % 2](number))
            if number % 5 == 0:
                sender.put(update(number // 5))
            if number % 10 == 0:
                sender.put(Status("", SourceState.RUNNING))
                eventually(sender._mailbox.empty)
        eventually(lambda: len(sender._waiting) + sender.lost == 1300)
        waiting = [item for _, item in sender._waiting]
        assert [item.index for item in waiting if isinstance(item, Update)] == list(range(200))
        assert sum(isinstance(item, Status) for item in waiting) == 100
        # There is room for many of the others, too.
        assert 128 < sum(not isinstance(item, Update | Status) for item in waiting) < 1024 - 300
        sender.set_delay(0.0)
        eventually(lambda: sent.frames == list(range(200)))


# --- the end ---


@pytest.mark.parametrize("is_due", [True, False])
def test_the_end_sends_due_items_and_before_they_are_due_answers_and_the_last_status(is_due: bool) -> None:
    sent = Blocked()
    target = TargetSettings(send=("frame", "event/mark", "level/rms", "status/source"))
    level = InputLevel(-6.0, -30.0, LevelState.MUSIC)
    with sending(target, sent, delay_s=0.0 if is_due else NEVER_S) as sender:
        for index in range(20):
            sender.put(update(index))
            sender.put(Event("event/mark", (index,)))
            # They are equal: only the last one is sent before it is due.
            sender.put(Status("", SourceState.RUNNING, level=level))
        sender.end()
        sent.opened.set()
    assert sent.frames == (list(range(20)) if is_due else [])
    assert sent.numbers("/mer/event/mark") == list(range(20))
    assert sent.numbers("/mer/status/source") == ["running"]
    assert sent.numbers("/mer/level/rms") == [-30.0] * (20 if is_due else 1)
    assert sender.lost == 0


def test_items_after_the_end_are_lost_and_counted() -> None:
    sent = Sent()
    sender = Sender(FRAMES, sent, 0.0)
    sender.put(update(0))
    sender.end()
    sender.put(update(1))
    sender.join(GENEROUS_S)
    sender.put(update(2))
    sender.set_delay(1.0)
    sender.end()
    assert sent.frames == [0]
    assert sender.lost == 2
