from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import MODES, THEMES
from realtime_mer.window.remembered import SPANS_S, Look, keep, recall

PX = st.integers(-32_767, 32_767)
SIZE_PX = st.integers(1, 32_767)
LOOK = st.builds(
    Look,
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


@given(look=LOOK)
def test_what_is_kept_is_recalled(path: Path, look: Look) -> None:
    keep(path, look)
    assert recall(path) == look


def test_without_a_file_the_defaults_are_recalled(tmp_path: Path) -> None:
    assert recall(tmp_path / "absent") == Look()
    assert recall(tmp_path) == Look()
    assert recall(Path("/\0")) == Look()


@given(content=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_an_unknown_file_counts_as_absent(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.json"
    file.write_bytes(content)
    recalled = recall(file)
    assert recalled == Look()


@pytest.mark.parametrize(
    "values",
    [
        {"mode": ["stage"]},
        {"theme": "blue"},
        {"span_s": 61.0},
        {"span_s": float("nan")},
        {"maximized": 1},
        {"more": 1},
        *({"place": place} for place in ("left", [1, 2, 3], [1, 2, 0, 4], [10**9, 0, 3, 4], [1.0, 2, 3, 4])),
    ],
)
def test_invalid_values_are_not_recalled(tmp_path: Path, values: dict[str, object]) -> None:
    file = tmp_path / "window.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    assert recall(file) == Look()


@pytest.mark.parametrize("content", [b"[" * 60_000, b"1" * 60_000, b'{"mode": "stage"}' + b" " * 10**6, b"\xff\xfe"])
def test_a_malicious_file_does_no_harm(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "window.json"
    file.write_bytes(content)
    assert recall(file) == Look()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_reading_never_blocks(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    recalled: list[Look] = []
    thread = threading.Thread(target=lambda: recalled.append(recall(pipe)), daemon=True)
    thread.start()
    thread.join(30.0)
    assert recalled == [Look()]


def test_a_look_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("as it was", encoding="utf-8")
    keep(blocked / "window.json", Look())
    assert blocked.read_text(encoding="utf-8") == "as it was"
