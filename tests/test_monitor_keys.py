from __future__ import annotations

from pathlib import Path

from realtime_mer.monitor.keys import KEYS, Action, markdown

PAGE = Path(__file__).resolve().parents[1] / "docs" / "keys.md"


def test_every_key_asks_for_one_thing_and_everything_has_a_key() -> None:
    names = [name for key in KEYS for name in key.names]
    assert len(set(names)) == len(names)
    assert sorted(key.action.name for key in KEYS) == sorted(action.name for action in Action)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_the_page_has_every_key() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    assert len(rows) == len(KEYS)
    for row, key in zip(rows, KEYS, strict=True):
        assert all(f"`{label}`" in row for label in key.labels)
        assert key.does in row
