from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from realtime_mer.window.shortcuts import KEYS, VIEWER_KEYS, Action, Key, markdown

PAGE = Path(__file__).resolve().parents[1] / "docs" / "keys.md"


@pytest.mark.parametrize("keys", [KEYS, VIEWER_KEYS])
def test_every_key_asks_for_one_thing(keys: Sequence[Key]) -> None:
    pressed = [(name, key.shifted) for key in keys for name in key.names]
    assert len(set(pressed)) == len(pressed)
    actions = [key.action for key in keys]
    assert len(set(actions)) == len(actions)


def test_everything_has_a_key() -> None:
    assert {key.action for key in (*KEYS, *VIEWER_KEYS)} == set(Action)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_the_page_has_every_key() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    for row, key in zip(rows, (*KEYS, *VIEWER_KEYS), strict=True):
        assert all(f"`{label}`" in row for label in key.labels)
        assert key.does in row
