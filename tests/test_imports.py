"""Which modules may import which: the product never needs the training, and the training never opens a device."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]
# What each folder and each top module imports of the package; `__init__` is its version and public names.
ARROWS = {
    "__main__": "cli",
    "api": "config errors live models sources types updates",
    "batch": "__init__ atomic config endings errors live models sources types workers",
    "cli": "__init__ batch config doctor endings log misspelling osc_monitor sources viewer wiring workers",
    "config": "errors moods",
    "demo": "sources types updates",
    "doctor": "__init__ api config demo errors features live log models osc priorities sources types updates window",
    "endings": "errors log",
    "features": "errors sources types",
    "live": "config features log models moods osc recording sources types updates",
    "log": "__init__ config errors updates",
    "misspelling": "errors sources",
    "models": "__init__ atomic config errors features types",
    "osc": "config errors log moods smoothing updates",
    "osc_monitor": "config endings errors osc terminal",
    "recording": "__init__ atomic config errors sources types updates",
    "sources": "config errors log types updates",
    "terminal": "moods updates",
    "types": "errors",
    "updates": "types",
    "viewer": "atomic config endings errors live models moods recording sources types updates window",
    "window": "atomic config endings features log moods osc smoothing updates",
    "wiring": "config demo endings errors live log models osc priorities recording sources terminal updates window",
}
NOT_FOR_TRAINING = tuple(
    "realtime_mer." + name
    for name in (
        *("cli", "demo", "doctor", "endings", "live", "log", "moods", "osc", "osc_monitor", "batch"),
        *("priorities", "recording", "smoothing", "terminal", "viewer", "window", "wiring"),
        *(
            f"sources.{name}"
            for name in ("capturing", "device", "devices", "file", "paced", "pcm", "portaudio", "ring")
        ),
    )
)


def imported_names(path: Path) -> Iterator[str]:
    """The full dotted name of everything that a module imports, at its top or inside a function.

    Imports below `if TYPE_CHECKING` are left out: they are not run.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: no relative imports"
            yield node.module
            # `from realtime_mer import log` imports a module; other names can be functions.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_imports(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported_names(path)
        if any(name == place or name.startswith(f"{place}.") for place in forbidden)
    ]


def test_the_product_imports_neither_the_training_nor_torch() -> None:
    assert forbidden_imports("realtime_mer", ("torch", "train", "benchmarks", "tests")) == []


def test_the_training_never_imports_what_belongs_to_the_stage() -> None:
    assert forbidden_imports("train", (*NOT_FOR_TRAINING, "benchmarks", "tests")) == []


def arrows() -> dict[str, set[str]]:
    """Which folders and top modules each folder or top module imports."""
    package = ROOT / "realtime_mer"
    places = {path.name.removesuffix(".py") for path in package.iterdir()}
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).parts[0].removesuffix(".py")
        for name in imported_names(path):
            top, _, rest = name.partition(".")
            if top == "realtime_mer" and rest:
                imported = rest.partition(".")[0]
                found.setdefault(place, set()).add(imported if imported in places else "__init__")
    return {place: others - {place} for place, others in found.items() if others - {place}}


def test_the_arrows_between_the_folders_are_these() -> None:
    assert {place: " ".join(sorted(others)) for place, others in arrows().items()} == ARROWS


def test_there_are_no_import_circles() -> None:
    graph = arrows()
    graph.pop("__main__", None)
    while ends := [place for place, others in graph.items() if not others & graph.keys()]:
        for place in ends:
            graph.pop(place)
    assert graph == {}, "these import each other in a circle"


@pytest.mark.parametrize(
    ("code", "slow"),
    [
        # What is needed before the first block of sound is captured.
        (
            "import realtime_mer.cli, realtime_mer.wiring, realtime_mer.sources.device",
            "scipy soundfile rich PyQt5 pyqtgraph aiohttp zeroconf",
        ),
        (
            "from realtime_mer.features.engine import FeatureEngine; FeatureEngine().finish()",
            "pandas opensmile sklearn matplotlib",
        ),
        (
            "from realtime_mer.config import load_settings; load_settings(None, {})",
            "numpy scipy rich tomli_w sounddevice soundfile aiohttp zeroconf pythonosc",
        ),
        (
            "import realtime_mer.cli, contextlib\n"
            "with contextlib.suppress(SystemExit): realtime_mer.cli.main(['--version'])",
            "matplotlib pandas numpy rich",
        ),
    ],
)
def test_slow_libraries_are_imported_late(code: str, slow: str) -> None:
    code += "\nimport sys; print(*sorted(set(sys.argv[1:]) & set(sys.modules)), file=sys.stderr)"
    run = subprocess.run(
        [sys.executable, "-c", code, *slow.split()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stderr.strip() == ""


@pytest.mark.slow
def test_no_run_imports_torch(tmp_path: Path) -> None:
    """Not even through a library, in any process: the first torch on the path leaves a trace if it is imported."""
    trace, clip = tmp_path / "imported", tmp_path / "clip.wav"
    (tmp_path / "torch.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise ImportError\n")
    soundfile.write(clip, np.random.default_rng(0).normal(scale=0.1, size=3 * 44_100), 44_100)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for arguments in (
        ["predict", str(clip)],
        ["--input", str(clip), "--fast", "--no-plot", "--model", "open"],
    ):
        command = [sys.executable, "-m", "realtime_mer", *arguments]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert len(run.stdout.splitlines()) >= 5, run.stdout
        assert not trace.exists(), arguments
