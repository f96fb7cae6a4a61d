"""The tests and files that the documentation names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")])


def named_in(page: str) -> list[tuple[str, str]]:
    """The tests on a page: `test_file.py::test_name`, or `::test_name` after one of the same file."""
    named, file = [], ""
    for match in re.finditer(r"`(test_\w+\.py)?(?:::(test_\w+))?`", page):
        file = match[1] or file
        if match[1] or match[2]:
            named.append((file, match[2] or ""))
    return named


def test_every_fault_names_existing_tests() -> None:
    named = named_in((ROOT / "docs/faults.md").read_text(encoding="utf-8"))
    assert len(named) > 40
    missing = []
    for file, name in named:
        path = ROOT / "tests" / file
        functions = {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
        }
        if name and name not in functions:
            missing.append(f"{file}::{name}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
