from __future__ import annotations

import json
import os
import pickle
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import MODES, THEMES
from realtime_mer.window.remembered import SPANS_S, Remembered, keep, recall

PX = st.integers(-32_767, 32_767)
SIZE_PX = st.integers(1, 32_767)
REMEMBERED = st.builds(
    Remembered,
    mode=st.sampled_from(MODES),
    theme=st.sampled_from(THEMES),
    span_s=st.sampled_from(SPANS_S),
    maximized=st.booleans(),
    full_screen=st.booleans(),
    place=st.none() | st.tuples(PX, PX, SIZE_PX, SIZE_PX),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remembered") / "deep" / "folder" / "window.json"


@given(remembered=REMEMBERED)
def test_what_is_kept_is_recalled(path: Path, remembered: Remembered) -> None:
    keep(path, remembered)
    assert recall(path) == remembered


def test_nothing_is_recalled_from_nowhere(tmp_path: Path) -> None:
    assert recall(tmp_path / "absent") == Remembered()
    assert recall(tmp_path) == Remembered()
    assert recall(Path("/\0")) == Remembered()


@given(content=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_not_ours_counts_as_absent(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.json"
    file.write_bytes(content)
    recalled = recall(file)
    assert recalled == Remembered()


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(asdict(Remembered()), JSON)))
def test_good_keys_beside_bad_ones_are_recalled(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    file = tmp_path_factory.getbasetemp() / "mixed.json"
    file.write_text(json.dumps({**values, "theme": "light", "more": 1}), encoding="utf-8")
    recalled = recall(file)
    assert recalled.theme == "light"
    assert recalled.mode in MODES
    assert recalled.span_s in SPANS_S
    # It would be written as it was read.
    keep(file, recalled)
    assert recall(file) == recalled


@pytest.mark.parametrize(
    "place",
    [
        "left",
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [1, 2, 0, 4],
        [1, 2, 3, -4],
        [10**9, 0, 3, 4],
        [1.0, 2, 3, 4],
        [True, 2, 3, 4],
    ],
)
def test_a_place_that_is_none_is_not_recalled(tmp_path: Path, place: object) -> None:
    file = tmp_path / "window.json"
    file.write_text(json.dumps({"place": place, "mode": "stage"}), encoding="utf-8")
    assert recall(file) == Remembered(mode="stage")


@pytest.mark.parametrize("content", [b"[" * 60_000, b"1" * 60_000, b'{"mode": "stage"}' + b" " * 10**6, b"\xff\xfe"])
def test_a_file_made_to_harm_does_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "window.json"
    file.write_bytes(content)
    assert recall(file) == Remembered()


class Bomb:
    """What would run code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("bombed",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "window.json"
    pickled = pickle.dumps(Bomb())
    for content in (
        pickled,
        json.dumps({"mode": pickled.decode("latin-1"), "place": f"@Variant({pickled!r})"}).encode(),
    ):
        file.write_bytes(content)
        assert recall(file) == Remembered()
    assert not (tmp_path / "bombed").exists()
    pickle.loads(pickled)
    assert (tmp_path / "bombed").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_nobody_is_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    recalled: list[Remembered] = []
    thread = threading.Thread(target=lambda: recalled.append(recall(pipe)), daemon=True)
    thread.start()
    thread.join(30.0)
    assert recalled == [Remembered()]


def test_what_cannot_be_kept_is_not(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("as it was", encoding="utf-8")
    keep(blocked / "window.json", Remembered())
    assert blocked.read_text(encoding="utf-8") == "as it was"
