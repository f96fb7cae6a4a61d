"""Who may import whom: the stage never needs the training, and the training never opens a device."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_FOR_TRAINING = tuple(
    "realtime_mer." + name
    for name in (
        *("cli", "config", "controls", "demo", "devices", "doctor", "endings", "keys", "live", "logs", "metering"),
        *("monitor", "moods", "osc", "priorities", "recording", "ring", "session", "smoothing", "sources", "status"),
        *("streams", "terminal", "viewing", "wiring"),
    )
)


def imported_names(source: str, package: str) -> Iterator[str]:
    """The full dotted name of everything that a module imports, at its top or inside a function.

    package: the dotted name of the package that the module lies in, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def offending_imports(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"no module in {folder}/"
    offences = []
    for path in files:
        relative = path.relative_to(ROOT)
        for name in imported_names(path.read_text(encoding="utf-8"), ".".join(relative.parent.parts)):
            offences += [f"{relative} imports {name}" for f in forbidden if name == f or name.startswith(f + ".")]
    return offences


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import train.loop as t", "realtime_mer", "train.loop"),
        ("def f():\n    from train import loop", "realtime_mer", "train.loop"),
        ("from realtime_mer import osc", "train", "realtime_mer.osc"),
        ("from . import osc", "realtime_mer", "realtime_mer.osc"),
        ("from ..monitor import window", "realtime_mer.models", "realtime_mer.monitor.window"),
        ("from .mlp import MLP", "realtime_mer.models", "realtime_mer.models.mlp"),
    ],
)
def test_every_form_of_import_is_seen(source: str, package: str, expected: str) -> None:
    assert expected in imported_names(source, package)


def test_the_product_never_imports_the_training() -> None:
    assert offending_imports("realtime_mer", ("train", "benchmarks", "tests")) == []


def test_the_training_never_imports_what_belongs_to_the_stage() -> None:
    assert offending_imports("train", (*NOT_FOR_TRAINING, "benchmarks", "tests")) == []


def test_a_device_is_opened_without_what_takes_long_to_import() -> None:
    code = (
        "import sys; import realtime_mer.cli, realtime_mer.wiring, realtime_mer.sources.device; "
        "late = {'torch', 'scipy', 'soundfile', 'rich', 'PyQt5', 'pyqtgraph', 'aiohttp', 'zeroconf'}; "
        "print(*sorted(late & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


def test_features_come_without_torch_and_pandas() -> None:
    """On the way to the first captured sample, each of them would cost a good part of a second."""
    code = (
        "import sys; from realtime_mer.features import FeatureEngine; FeatureEngine().finish(); "
        "print(*sorted({'torch', 'pandas', 'opensmile', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr
