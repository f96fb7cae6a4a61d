"""A target's thread. Times are only ever bounded from below: a busy machine may do everything later."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from osc_sockets import GENEROUS_S, eventually

from realtime_mer.config import TargetSettings
from realtime_mer.osc.composing import Event
from realtime_mer.osc.messages import Message
from realtime_mer.osc.sender import Item, NewRate, NewSmoothing, Sender
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

FRAMES = TargetSettings(send=("frame",))
FRAMES_AND_MARKS = TargetSettings(send=("frame", "event/mark"))
# Longer than anything here waits.
NEVER_S = 3600.0


def update(index: int, valence: float = 0.0) -> Update:
    return Update(index, Prediction(0.5 * index, valence, 0.0), False, None)


@dataclass
class Said:
    """Takes what a sender sends, and when."""

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


class Blocked(Said):
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


def test_everything_is_said_in_its_order() -> None:
    said = Said()
    target = TargetSettings(send=("frame", "event/mark", "status/drops"))
    states = itertools.cycle([SourceState.LOST, SourceState.RUNNING])
    with sending(target, said) as sender:
        for index in range(150):
            sender.put(update(index))
            sender.put(Event("event/mark", (index,)))
            sender.put(Status("", next(states), dropped_blocks=index))
            # The mailbox has room for what comes of commands in over eighty rounds, and the thread may be late.
            said.wait_for(3 * (index - 50))
    told = [messages for _, messages in said.bundles]
    assert told == [
        [Message(f"/mer/{name}", "i", (index,))]
        for index in range(150)
        for name in ("frame", "event/mark", "status/drops")
    ]
    assert sender.lost == 0


def test_many_threads_may_tell_and_each_is_heard_in_its_order() -> None:
    said = Said()
    with sending(FRAMES, said) as sender:

        def tell(first: int) -> None:
            for index in range(first, first + 100):
                sender.put(update(index))

        threads = [threading.Thread(target=tell, args=(first,)) for first in (0, 1000, 2000, 3000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sender.lost == 0
    for first in (0, 1000, 2000, 3000):
        heard = [index for index in said.frames if isinstance(index, int) and first <= index < first + 100]
        assert heard == list(range(first, first + 100))


# --- delay ---


def test_nothing_leaves_before_its_delay_is_over_nor_out_of_order() -> None:
    said = Said()
    put_s = []
    with sending(FRAMES, said, delay_s=0.2) as sender:
        for index in range(10):
            put_s.append(time.monotonic())
            sender.put(update(index))
            time.sleep(0.02)
        said.wait_for(10)
    assert said.frames == list(range(10))
    for (left_s, _), came_s in zip(said.bundles, put_s, strict=True):
        assert left_s >= came_s + 0.2


def test_a_shorter_delay_holds_at_once_for_what_is_waiting() -> None:
    said = Said()
    with sending(FRAMES, said, delay_s=NEVER_S) as sender:
        before_s = time.monotonic()
        sender.put(update(0))
        sender.put(update(1))
        # It is asleep by then, for an hour.
        eventually(lambda: len(sender._waiting) == 2 and sender._mailbox.empty())
        sender.delay_s = 0.3
        assert sender.delay_s == 0.3
        eventually(lambda: said.frames == [0, 1])
        assert said.bundles[0][0] >= before_s + 0.3
        sender.delay_s = 0.0
        sender.put(update(2))
        eventually(lambda: said.frames == [0, 1, 2])


def test_a_longer_delay_holds_for_what_is_waiting() -> None:
    said = Said()
    with sending(FRAMES, said, delay_s=NEVER_S) as sender:
        sender.put(update(0))
        eventually(lambda: len(sender._waiting) == 1)
        sender.delay_s = 2 * NEVER_S
        assert sender.delay_s == 2 * NEVER_S
        sender.put(Event("event/mark", (1,)))
        eventually(lambda: len(sender._waiting) == 2)
        assert said.bundles == []


def test_whoever_changes_the_delay_again_and_again_fills_nothing(blocked: Blocked) -> None:
    with sending(FRAMES, blocked) as sender:
        sender.put(update(0))
        assert blocked.entered.wait(GENEROUS_S)
        for number in range(5000):
            sender.delay_s = 0.001 * (number % 7)
        assert sender._mailbox.qsize() <= 1
        sender.put(update(1))
        blocked.opened.set()
        eventually(lambda: blocked.frames == [0, 1])


# --- smooth values ---

SMOOTH = TargetSettings(send=("smooth/valence", "event/mark"), rate_hz=50.0)


def times_s(said: Said) -> list[float]:
    return [left_s for left_s, messages in said.bundles if messages[0].address.startswith("/mer/smooth/")]


def test_smooth_values_leave_on_their_grid_and_never_faster() -> None:
    said = Said()
    began_s = time.monotonic()
    with sending(SMOOTH, said):
        said.wait_for(26)
    for number, left_s in enumerate(times_s(said)):
        assert left_s >= began_s + number / 50.0 - 1e-6


def test_moments_that_were_missed_are_not_made_up_for() -> None:
    said = Blocked()
    with sending(SMOOTH, said):
        assert said.entered.wait(GENEROUS_S)
        # Fifty moments of the grid.
        time.sleep(1.0)
        released_s = time.monotonic()
        said.opened.set()
        said.wait_for(12)
    # The first is the one that was held up, the second the only one that is made up for.
    for number, left_s in enumerate(times_s(said)[2:]):
        assert left_s >= released_s + number / 50.0 - 1e-6


def test_a_higher_rate_holds_from_then_on() -> None:
    said = Said()
    slow = TargetSettings(send=("smooth/valence",), rate_hz=1.0)
    with sending(slow, said) as sender:
        sender.put(NewRate(120.0))
        # At the old rate that would take two minutes.
        said.wait_for(120)


def test_a_lower_rate_holds_from_then_on() -> None:
    said = Said()
    with sending(SMOOTH, said) as sender:
        said.wait_for(3)
        sender.put(NewRate(5.0))
        sender.put(Event("event/mark", (1,)))
        eventually(lambda: said.numbers("/mer/event/mark"))
        n_before = [messages[0].address for _, messages in said.bundles].index("/mer/event/mark")
        eventually(lambda: len(times_s(said)) >= n_before + 5)
    # The next moment is still one of the old grid, and was set when the last but one had left.
    earliest_s = times_s(said)[n_before - 2]
    for number, left_s in enumerate(times_s(said)[n_before:]):
        assert left_s >= earliest_s + number / 5.0 - 1e-6


def test_where_nothing_is_wanted_nothing_is_said() -> None:
    said = Said()
    with sending(TargetSettings(send=("frame", "level/*"), rate_hz=120.0), said) as sender:
        sender.put(Event("event/mark", (1,)))
        sender.put(Status("", SourceState.RUNNING))
        sender.put(update(0))
        said.wait_for(1)
        time.sleep(0.1)
    assert [messages for _, messages in said.bundles] == [[Message("/mer/frame", "i", (0,))]]


def test_another_smoothing_holds_from_then_on() -> None:
    said = Said()
    slow = TargetSettings(send=("smooth/valence",), rate_hz=120.0, smoothing="linear", settle_s=60.0)
    with sending(slow, said) as sender:
        sender.put(update(0, valence=1.0))
        sender.put(NewSmoothing("linear", 30.0))
        # At the old pace, more than 20 s.
        sender.put(NewSmoothing("none", None))
        eventually(lambda: said.numbers("/mer/smooth/valence")[-1:] == [1.0])


def test_smooth_values_wait_for_a_delayed_prediction() -> None:
    said = Said()
    at_once = TargetSettings(send=("smooth/valence",), rate_hz=120.0, smoothing="none")
    with sending(at_once, said, delay_s=0.3) as sender:
        put_s = time.monotonic()
        sender.put(update(0, valence=1.0))
        eventually(lambda: said.numbers("/mer/smooth/valence")[-1:] == [1.0])
    for left_s, (message,) in said.bundles:
        assert message.values == (0.0,) or left_s >= put_s + 0.3


# --- what is too much ---


def test_a_send_that_hangs_loses_what_comes_and_disturbs_nobody_else(blocked: Blocked) -> None:
    said = Said()
    with sending(FRAMES, blocked) as hanging, sending(FRAMES, said) as other:
        hanging.put(update(0))
        assert blocked.entered.wait(GENEROUS_S)
        for index in range(1, 2000):
            hanging.put(update(index))
            other.put(update(index))
            said.wait_for(index - 100)
        eventually(lambda: said.frames == list(range(1, 2000)))
        assert other.lost == 0
        assert blocked.bundles == []
        # The one in hand, and a mailbox.
        assert hanging.lost == 2000 - 1 - 512
        blocked.opened.set()
        # What was taken is said, the oldest first.
        eventually(lambda: blocked.frames == list(range(513)))
        hanging.put(update(5000))
        eventually(lambda: blocked.frames[-1] == 5000)
        assert hanging.lost == 2000 - 1 - 512


def test_every_loss_is_counted_whoever_told(blocked: Blocked) -> None:
    with sending(FRAMES, blocked) as sender:
        sender.put(update(0))
        assert blocked.entered.wait(GENEROUS_S)

        def tell() -> None:
            for index in range(5000):
                sender.put(update(index))

        threads = [threading.Thread(target=tell) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sender.lost == 4 * 5000 - 512
        blocked.opened.set()


def test_what_waits_for_its_delay_is_bounded_too() -> None:
    said = Said()
    with sending(FRAMES, said, delay_s=NEVER_S) as sender:
        for index in range(2000):
            sender.put(update(index))
            if index % 100 == 0:
                eventually(sender._mailbox.empty)
        eventually(sender._mailbox.empty)
        eventually(lambda: len(sender._waiting) + sender.lost == 2000)
        assert len(sender._waiting) == 512
        sender.delay_s = 0.0
        eventually(lambda: said.frames == list(range(512)))


COMMANDED = [
    pytest.param(lambda number: Event("event/mark", (number,)), id="event"),
    pytest.param(lambda number: NewRate(1.0 + number % 100), id="rate"),
    pytest.param(lambda number: NewSmoothing("spring", 1.0 + number), id="smoothing"),
]


@pytest.mark.parametrize("commanded", COMMANDED)
def test_a_flood_of_what_comes_of_commands_crowds_no_prediction_out(commanded: Callable[[int], Item]) -> None:
    said = Said()
    with sending(FRAMES_AND_MARKS, said, delay_s=5.0) as sender:
        # As much as comes in ten seconds, of predictions and status, between a thousand others.
        for number in range(1000):
            sender.put(commanded(number))
            if number % 50 == 0:
                sender.put(update(number // 50))
            if number % 10 == 0:
                sender.put(Status("", SourceState.RUNNING))
                # The thread keeps up.
                eventually(sender._mailbox.empty)
        eventually(lambda: len(sender._waiting) + sender.lost == 1120)
        waiting = [item for _, item in sender._waiting]
        assert [item.index for item in waiting if isinstance(item, Update)] == list(range(20))
        assert sum(isinstance(item, Status) for item in waiting) == 100
        # There is room for many of the others, too.
        assert sum(not isinstance(item, Update | Status) for item in waiting) > 128
        assert len(waiting) < 512
        sender.delay_s = 0.0
        eventually(lambda: said.frames == list(range(20)))


def test_a_flood_of_answers_leaves_room_for_predictions_where_a_send_hangs(blocked: Blocked) -> None:
    with sending(FRAMES_AND_MARKS, blocked) as sender:
        sender.put(update(0))
        assert blocked.entered.wait(GENEROUS_S)
        for number in range(1000):
            sender.put(Event("event/mark", (number,)))
        assert sender.lost == 1000 - 256
        for index in range(1, 201):
            sender.put(update(index))
        assert sender.lost == 1000 - 256
        blocked.opened.set()
        eventually(lambda: blocked.frames == list(range(201)))
        assert blocked.numbers("/mer/event/mark") == list(range(256))


# --- what does not get there ---


class Failing(Said):
    """Says that nothing went, until `is_up`."""

    is_up = False

    def __call__(self, messages: list[Message]) -> bool:
        super().__call__(messages)
        return self.is_up


def test_what_did_not_get_there_is_news_again() -> None:
    said = Failing()
    target = TargetSettings(send=("valence", "held", "event/mark"), on_change=True)
    everything = [Message("/mer/valence", "f", (0.5,)), Message("/mer/held", "i", (0,))]
    with sending(target, said) as sender:
        for n in range(1, 4):
            sender.put(update(n, valence=0.5))
            said.wait_for(n)
        # Whatever it was that did not get there.
        sender.put(Event("event/mark", (1,)))
        said.wait_for(4)
        said.is_up = True
        for index in range(3):
            sender.put(update(index, valence=0.5))
        sender.put(update(7, valence=0.25))
    assert [messages for _, messages in said.bundles] == [
        *([everything] * 3),
        [Message("/mer/event/mark", "i", (1,))],
        everything,
        [Message("/mer/valence", "f", (0.25,))],
    ]


# --- the end ---


def test_the_end_says_what_is_due() -> None:
    said = Blocked()
    with sending(FRAMES_AND_MARKS, said) as sender:
        for index in range(20):
            sender.put(update(index))
        sender.put(Event("event/mark", (1,)))
        sender.end()
        said.opened.set()
    assert said.frames == list(range(20))
    assert said.numbers("/mer/event/mark") == [1]
    assert sender.lost == 0


def test_of_what_is_not_due_the_end_says_answers_and_the_last_status() -> None:
    said = Said()
    target = TargetSettings(send=("frame", "event/mark", "level/rms", "status/source"))
    level = InputLevel(-6.0, -30.0, LevelState.MUSIC)
    with sending(target, said, delay_s=NEVER_S) as sender:
        for index in range(20):
            sender.put(update(index))
            sender.put(Event("event/mark", (index,)))
            # One is as the other: only the last is said all the same.
            sender.put(Status("", SourceState.RUNNING, level=level))
        eventually(lambda: len(sender._waiting) == 60)
    assert said.frames == []
    assert said.numbers("/mer/event/mark") == list(range(20))
    assert said.numbers("/mer/status/source") == ["running"]
    assert said.numbers("/mer/level/rms") == [-30.0]
    # In their order.
    assert said.bundles[-1][1][-1].address == "/mer/status/source"


def test_what_is_due_at_the_end_is_said_though_other_things_are_not() -> None:
    said = Said()
    with sending(FRAMES, said, delay_s=NEVER_S) as sender:
        sender.put(update(0))
        sender.put(update(1))
        eventually(lambda: len(sender._waiting) == 2)
        # As it looks where the thread has been held up, and the first came long ago.
        sender._waiting[0] = (sender._waiting[0][0] - 2 * NEVER_S, sender._waiting[0][1])
    assert said.frames == [0]


def test_what_comes_after_the_end_is_lost_and_counted() -> None:
    said = Said()
    sender = Sender(FRAMES, said, 0.0)
    sender.put(update(0))
    sender.end()
    sender.put(update(1))
    sender.join(GENEROUS_S)
    sender.put(update(2))
    sender.delay_s = 1.0
    sender.end()
    assert said.frames == [0]
    assert sender.lost == 2


def test_to_join_a_thread_that_hangs_takes_no_longer_than_was_said(blocked: Blocked) -> None:
    with sending(FRAMES, blocked) as sender:
        sender.put(update(0))
        assert blocked.entered.wait(GENEROUS_S)
        sender.end()
        joining = threading.Thread(target=sender.join, args=(0.05,))
        joining.start()
        joining.join(GENEROUS_S)
        assert not joining.is_alive()
        assert blocked.bundles == []
        blocked.opened.set()
