"""The tests, files, links and import layers that the documentation names exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
from live_runs import without_display
from osc_sockets import free_port
from test_imports import arrows

ROOT = Path(__file__).resolve().parents[1]
PAGES_ON_CODE = ("architecture", "decisions", "training", "results")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")])


def named_in(page: str) -> list[tuple[str, str]]:
    """Tests named as `test_file.py::test_name`, or as `::test_name` after another test of the same file."""
    named, file = [], ""
    for match in re.finditer(r"`(test_\w+\.py)?(?:::(test_\w+))?`", page):
        file = match[1] or file
        if match[1] or match[2]:
            named.append((file, match[2] or ""))
    return named


@pytest.mark.parametrize(("page", "fewest"), [("faults", 40), ("running", 8)])
def test_every_fault_names_existing_tests(page: str, fewest: int) -> None:
    named = named_in((ROOT / f"docs/{page}.md").read_text(encoding="utf-8"))
    assert len(named) >= fewest
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


@pytest.mark.parametrize("page", ["README.md", "MODEL_CARD.md", *(f"docs/{name}.md" for name in PAGES_ON_CODE)])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"(?:\w+/)+\w+\.(?:py|conf|inc|toml|safetensors)\b", (ROOT / page).read_text(encoding="utf-8"))
    assert named
    assert [file for file in named if not any((top / file).exists() for top in (ROOT, ROOT / "realtime_mer"))] == []


def test_the_layers_in_the_architecture_page_hold() -> None:
    """Each folder imports only folders that stand above its line."""
    _, _, section = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Who imports whom")
    layers = [line.strip().split(", ") for line in section.splitlines() if line.startswith("    ")]
    depth = {folder: number for number, layer in enumerate(layers) for folder in layer}
    found = arrows()
    found.pop("__main__")
    wrong = [
        f"{folder} imports {other}"
        for folder, others in found.items()
        for other in others - {"__init__"}
        if depth[folder] <= depth[other]
    ]
    assert wrong == []


@pytest.mark.slow
def test_a_newcomers_first_evening(tmp_path: Path) -> None:
    """A moved fader, a recording, its replay and a predicted folder, with nothing but the commands of the README."""
    environment = without_display({**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "PORT": str(free_port())})
    script = [str(ROOT / "examples/first_evening.sh"), str(tmp_path)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    received = (tmp_path / "osc.txt").read_text(encoding="utf-8")
    fader = re.findall(r" /mer/smooth/unipolar/arousal f (\S+)", received)
    assert len(set(fader)) > 10
    # What the desk got is what the recording and the table hold.
    recorded = (tmp_path / "tonight/predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    predicted = (tmp_path / "moods/audio-000.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(predicted) == len(recorded) >= 6
    arousals = [float(line.rpartition(",")[2]) for line in predicted]
    sent = [float(value) for value in re.findall(r" /mer/arousal f (\S+)", received)]
    assert arousals[: len(sent)] == pytest.approx(sent[: len(arousals)], abs=1e-4)
    assert "identical to the recorded ones" in done.stderr
    assert "Without sound: " in (tmp_path / "demo.txt").read_text(encoding="utf-8")
    assert "Next: `.venv/bin/realtime-mer devices`" in done.stderr
