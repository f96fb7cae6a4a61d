"""Who may import whom: the stage never needs the training, and the training never opens a device."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What each folder, and each module at the top, may import of the package; `__init__` is its version and public names.
ARROWS = {
    "api": "config errors live models sources types updates",
    "__main__": "cli",
    "cli": "__init__ config doctor endings log models osc_monitor predict sources viewer wiring workers",
    "config": "errors moods",
    "demo": "sources types updates",
    "doctor": "__init__ config demo features live log models osc priorities sources updates window",
    "endings": "errors log",
    "features": "errors sources types",
    "live": "config features log models moods osc recording sources types updates",
    "log": "__init__ config errors updates",
    "models": "__init__ atomic errors features types",
    "osc": "config errors log moods smoothing updates",
    "osc_monitor": "config endings errors osc terminal",
    "predict": "__init__ atomic errors live models sources types workers",
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
        *("cli", "config", "demo", "doctor", "endings", "live", "log", "moods", "osc", "osc_monitor", "predict"),
        *("priorities", "recording", "smoothing", "terminal", "viewer", "window", "wiring"),
        *(
            f"sources.{name}"
            for name in ("capturing", "device", "devices", "file", "paced", "pcm", "portaudio", "ring")
        ),
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
        ("from ..window import run", "realtime_mer.models", "realtime_mer.window.run"),
        ("from .mlp import MLP", "realtime_mer.models", "realtime_mer.models.mlp"),
    ],
)
def test_every_form_of_import_is_seen(source: str, package: str, expected: str) -> None:
    assert expected in imported_names(source, package)


def test_the_product_never_imports_the_training() -> None:
    assert offending_imports("realtime_mer", ("train", "benchmarks", "tests")) == []


def test_the_training_never_imports_what_belongs_to_the_stage() -> None:
    assert offending_imports("train", (*NOT_FOR_TRAINING, "benchmarks", "tests")) == []


def arrows() -> dict[str, set[str]]:
    """Which folders and top modules each folder or top module imports, at its top or inside a function.

    What stands below `if TYPE_CHECKING` names types and is not run.
    """
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "realtime_mer").rglob("*.py")):
        place = path.relative_to(ROOT / "realtime_mer").parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))]
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.module, f"{path}: no relative imports"
                # Both `from realtime_mer import log` and `from realtime_mer.log import notify`.
                below = [f"{node.module}.{alias.name}" for alias in node.names]
                modules = below if node.module == "realtime_mer" else [node.module]
            for module in modules:
                top, *rest = module.split(".")
                if top == "realtime_mer":
                    is_module = rest and any((ROOT / "realtime_mer").glob(f"{rest[0]}*"))
                    found.setdefault(place, set()).add(rest[0] if is_module else "__init__")
    return {place: others - {place} for place, others in found.items() if others - {place}}


def test_the_arrows_between_the_folders_are_these() -> None:
    assert {place: " ".join(sorted(others)) for place, others in arrows().items()} == ARROWS


def test_no_folder_imports_itself_by_way_of_others() -> None:
    graph = arrows()
    graph.pop("__main__", None)
    while ends := [place for place, others in graph.items() if not others & graph.keys()]:
        for place in ends:
            graph.pop(place)
    assert graph == {}, "these import one another in a circle"


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
        "import sys; from realtime_mer.features.engine import FeatureEngine; FeatureEngine().finish(); "
        "print(*sorted({'torch', 'pandas', 'opensmile', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr
