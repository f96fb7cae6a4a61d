"""What the window keeps: messages, its rate, its look between runs, pictures, its place, its keys."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from drawing import require_qt
from hypothesis import given
from hypothesis import strategies as st
from windows import ROOT, TIMEOUT_S

from realtime_mer.config import MODES, THEMES
from realtime_mer.window.notices import Notice, Notices
from realtime_mer.window.pace import Pace
from realtime_mer.window.remembered import ZOOMS_S, Look, keep, recall
from realtime_mer.window.shortcuts import KEYS, VIEWER_KEYS, Key

# Messages


def test_a_message_lasts_for_some_seconds_and_one_about_a_fault_for_longer() -> None:
    now_s = 100.0
    notices = Notices(lambda: now_s)
    notices.post("Saved.")
    notices.post("The disk is full.", fault=True)
    now_s += 5.9
    assert notices.current() == (Notice("Saved."), Notice("The disk is full.", fault=True))
    now_s += 0.2
    assert notices.current() == (Notice("The disk is full.", fault=True),)
    now_s += 9.0
    assert notices.current() == ()


@given(st.text(max_size=600))
def test_a_message_becomes_one_short_line(text: str) -> None:
    notices = Notices()
    notices.post(text)
    (notice,) = notices.current()
    assert len(notice.text.splitlines()) <= 1
    assert len(notice.text) <= 301
    assert notice.text.rstrip("…") in " ".join(text.split())


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns much more often than usual."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def test_threads_post_while_the_window_reads_and_the_last_messages_stay(hasty_threads: None) -> None:
    notices = Notices()

    def post(name: str) -> None:
        for number in range(2_000):
            notices.post(f"{name} {number}")

    threads = [threading.Thread(target=post, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(notices.current()) <= 16
    assert len(notices.current()) == 16
    assert notices.current()[-1].text.endswith(" 1999")


# How often it draws


class Drawing:
    """A thread that draws, and works for so long on each picture."""

    def __init__(self) -> None:
        self.pace = Pace(60.0)
        self.now_s = self.busy_s = 0.0

    def draw(self, seconds: float, picture_s: float) -> int:
        """Returns the interval at the end."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.pace.note(self.now_s, self.busy_s)
            self.busy_s += picture_s
            self.now_s += max(self.pace.interval_ms / 1000.0, picture_s)
        return self.pace.interval_ms


@pytest.mark.parametrize(("refresh_hz", "interval_ms"), [(59.94, 16), (144.0, 16), (50.0, 20), (0.0, 16), (1.0, 16)])
def test_it_draws_as_often_as_the_screen_up_to_60_hz(refresh_hz: float, interval_ms: int) -> None:
    assert Pace(refresh_hz).interval_ms == interval_ms


def test_slow_drawing_is_halved_until_it_is_fast_again() -> None:
    drawing = Drawing()
    assert drawing.draw(20.0, picture_s=0.004) == 16
    assert drawing.draw(0.1, picture_s=0.3) == 16, "one slow picture changes nothing"
    assert drawing.draw(20.0, picture_s=0.012) == 33
    assert drawing.draw(20.0, picture_s=0.004) == 16


@given(st.floats(0.0, 0.2))
def test_the_rate_settles(picture_s: float) -> None:
    drawing = Drawing()
    settled = drawing.draw(10.0, picture_s)
    assert {drawing.draw(1.0, picture_s) for _ in range(15)} == {settled}


# Its look between runs

PX, SIZE_PX = st.integers(-32_767, 32_767), st.integers(1, 32_767)
LOOK = st.builds(
    Look,
    mode=st.sampled_from(MODES),
    theme=st.sampled_from(THEMES),
    span_s=st.sampled_from(ZOOMS_S),
    maximized=st.booleans(),
    full_screen=st.booleans(),
    place=st.none() | st.tuples(PX, PX, SIZE_PX, SIZE_PX),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(look=LOOK)
def test_a_look_is_recalled_as_it_was_kept(tmp_path_factory: pytest.TempPathFactory, look: Look) -> None:
    path = tmp_path_factory.getbasetemp() / "deep" / "folder" / "window.json"
    keep(path, look)
    assert recall(path) == look


@given(content=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_an_unknown_file_counts_as_absent(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.json"
    file.write_bytes(content)
    assert recall(file) == Look()


@pytest.mark.parametrize(
    "content",
    [
        *(
            b'{"theme": "light", ' + wrong + b"}"
            for wrong in (
                *(b'"mode": ["stage"]', b'"mode": "blue"', b'"span_s": 61.0', b'"span_s": NaN', b'"maximized": 1'),
                *(b'"place": "left"', b'"place": [1, 2, 3]', b'"place": [1, 2, 0, 4]', b'"place": [1000000, 0, 3, 4]'),
            )
        ),
        *(b"[" * 60_000, b"1" * 60_000, b'{"mode": "stage"}' + b" " * 10**6),
    ],
)
def test_invalid_values_are_not_recalled(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "window.json"
    file.write_bytes(content)
    assert recall(file) == Look()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_reading_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    recalled: list[Look] = []
    thread = threading.Thread(target=lambda: recalled.append(recall(tmp_path / "pipe")), daemon=True)
    thread.start()
    thread.join(30.0)
    assert recalled == [Look()]


def test_a_look_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("as it was", encoding="utf-8")
    keep(tmp_path / "file" / "window.json", Look())
    assert (tmp_path / "file").read_text(encoding="utf-8") == "as it was"


# Pictures


def test_a_picture_never_replaces_a_file_or_follows_a_link(tmp_path: Path) -> None:
    require_qt()
    from realtime_mer.window.pictures import write_new

    (tmp_path / "name.png").symlink_to(tmp_path / "elsewhere")
    paths = [write_new(b"%d" % number, [tmp_path / "absent", tmp_path], "name", ".png") for number in (2, 3)]
    assert [path.name for path in paths] == ["name (2).png", "name (3).png"]
    assert [path.read_bytes() for path in paths] == [b"2", b"3"]
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(OSError, match="absent"):
        write_new(b"0", [tmp_path / "other", tmp_path / "absent"], "name", ".png")


def test_a_picture_that_cannot_be_written_whole_leaves_nothing_behind(tmp_path: Path) -> None:
    require_qt()
    from realtime_mer.window.pictures import write_new

    resource = pytest.importorskip("resource", reason="no limits of a file's size here")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_new(b"0" * 100_000, [tmp_path], "name", ".png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_saving_does_not_wait_and_refuses_a_second_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_qt()
    from realtime_mer.window import pictures
    from realtime_mer.window.qt import QtGui

    go_on = threading.Event()
    write = pictures.write_new

    def slow(*arguments: object) -> Path:
        go_on.wait(TIMEOUT_S)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "write_new", slow)
    notices = Notices()
    saver = pictures.PictureSaver(notices, [tmp_path])
    image = QtGui.QImage(20, 10, QtGui.QImage.Format.Format_RGB32)
    image.fill(0)
    saver.save(image)
    saver.save(image)
    assert [notice.text for notice in notices.current()] == ["A picture is still being saved."]
    saver.finish(0.01)
    go_on.set()
    saver.finish(TIMEOUT_S)
    (file,) = tmp_path.iterdir()
    assert notices.current()[-1].text == f"Saved as {file}"
    assert QtGui.QImage(str(file)).size() == image.size()
    saver.save(QtGui.QImage())
    saver.finish(TIMEOUT_S)
    assert notices.current()[-1].fault
    assert "No picture was saved" in notices.current()[-1].text


# Its place

Rect = tuple[int, int, int, int]

RECTS = st.tuples(
    st.integers(-40_000, 40_000), st.integers(-40_000, 40_000), st.integers(1, 40_000), st.integers(1, 40_000)
)


def fit(place: Rect, rooms: Sequence[Rect]) -> Rect:
    require_qt()
    from realtime_mer.window.base import fitted
    from realtime_mer.window.qt import QtCore

    found = fitted(QtCore.QRect(*place), [QtCore.QRect(*room) for room in rooms])
    return found.x(), found.y(), found.width(), found.height()


@given(RECTS, st.lists(RECTS, min_size=1, max_size=4))
def test_a_place_fits_into_a_room_and_stays_there(place: Rect, rooms: list[Rect]) -> None:
    found = fit(place, rooms)
    (room, *_) = [room for room in rooms if is_within(found, room)]
    assert found[2] <= place[2]
    assert found[3] <= place[3]
    assert fit(found, [room]) == found


def is_within(inner: Rect, outer: Rect) -> bool:
    return all(
        outer[side] <= inner[side] and inner[side] + inner[side + 2] <= outer[side] + outer[side + 2] for side in (0, 1)
    )


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        # Most of it is on the second.
        ((1200, 100, 800, 600), (1280, 100, 800, 600)),
        ((800, 100, 800, 600), (480, 100, 800, 600)),
        # On neither.
        ((5000, 5000, 800, 600), (480, 120, 800, 600)),
        # Too large.
        ((1400, 0, 9000, 9000), (1280, 0, 1920, 1080)),
    ],
)
def test_a_place_goes_to_the_screen_that_has_most_of_it(place: Rect, expected: Rect) -> None:
    assert fit(place, [(0, 0, 1280, 720), (1280, 0, 1920, 1080)]) == expected


# Keys


@pytest.mark.parametrize("keys", [KEYS, VIEWER_KEYS])
def test_every_key_has_one_action(keys: Sequence[Key]) -> None:
    pressed = [(name, key.shifted) for key in keys for name in key.names]
    assert len(set(pressed)) == len(pressed)
    assert len({key.action for key in keys}) == len(keys)


def test_the_page_has_every_key() -> None:
    page = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    labels = [", ".join(f"`{label}`" for label in key.labels) for key in (*KEYS, *VIEWER_KEYS)]
    expected = [f"| {label} | {key.does} |" for label, key in zip(labels, (*KEYS, *VIEWER_KEYS), strict=True)]
    assert rows == expected
