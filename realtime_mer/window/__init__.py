"""The window of a live run. Importing this package is cheap: Qt and pyqtgraph are loaded only for a window."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# These choose Qt's display, except on Windows and macOS.
_CHOICES = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
_PROBE = Path(__file__).with_name("probe.py")
# A display that answers at all does so within a fraction of this.
_PROBE_TIMEOUT_S = 5.0


def display_fault() -> str | None:
    """Why no window can be shown here and what to do about it, in sentences; None if one can.

    Takes a fraction of a second, and 5 s at most. If it returns None, Qt and pyqtgraph have been imported.
    """
    by_x11_or_wayland = sys.platform not in ("win32", "darwin")
    if by_x11_or_wayland and not any(map(os.environ.get, _CHOICES)):
        return (
            "There is no display: neither DISPLAY nor WAYLAND_DISPLAY is set. "
            "Start it from a desktop session, or through ssh -X."
        )
    for package in ("PyQt5", "pyqtgraph"):
        if importlib.util.find_spec(package) is None:
            return f"{package}, which draws the window, is not installed: pip install PyQt5 pyqtgraph."
    try:
        # Runs while this process imports what the window needs.
        probe = _start_probe() if by_x11_or_wayland else None
    except OSError as error:
        return f"The display cannot be checked: {sys.executable or 'Python'} does not start ({error})."
    try:
        importlib.import_module("realtime_mer.window.qt")
        return None if probe is None else _probe_fault(probe)
    except Exception as error:  # noqa: BLE001 - packages that do not fit together raise all sorts
        return _missing_libraries_fault() or f"Qt or pyqtgraph cannot be loaded: {str(error).rstrip('.')}."
    finally:
        if probe is not None:
            probe.kill()
            probe.communicate()


def _start_probe() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", str(_PROBE)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )


def _probe_fault(probe: subprocess.Popen[str]) -> str | None:
    chosen = [name for name in _CHOICES if os.environ.get(name)]
    display = " and ".join(f"{name}={os.environ[name]}" for name in chosen)
    try:
        _, messages = probe.communicate(timeout=_PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"The display has not answered for {_PROBE_TIMEOUT_S:g} s. Is {display} right?"
    if probe.returncode == 0:
        return None
    # Qt's message for a plugin that the dynamic linker refuses.
    missing = _missing_libraries_fault() if "even though it was found" in messages else None
    if missing is not None:
        return missing
    # The first message has the cause, after a common remark; the rest lists Qt's plugins.
    causes = [line for line in messages.splitlines() if line.strip() and not line.startswith("QStandardPaths:")]
    cause = causes[0].strip().rstrip(".") if causes else f"Qt ended with {probe.returncode}"
    if chosen == ["WAYLAND_DISPLAY"]:
        return f"Qt cannot draw: {cause}. For Wayland, set QT_QPA_PLATFORM=wayland."
    return f"Qt cannot draw: {cause}. Is {display} right, and may this user draw there (xauth)?"


def _missing_libraries_fault() -> str | None:
    """What to install if PyQt5's wheel lacks system libraries; None if ldd finds all of them, or is missing."""
    spec = importlib.util.find_spec("PyQt5")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec is not None else []
    binaries = [
        binary
        for folder in folders
        for pattern in ("QtCore*.so", "QtGui*.so", "QtWidgets*.so", "Qt5/plugins/platforms/libqxcb.so")
        for binary in folder.glob(pattern)
    ]
    missing = _not_found(binaries)
    if not missing:
        return None
    packages = sorted({_debian_package(library) for library in missing})
    return (
        f"Qt lacks these system libraries: {', '.join(missing)}. "
        f"On Debian and Ubuntu: sudo apt-get install {' '.join(packages)}"
    )


def _debian_package(library: str) -> str:
    """The package of a shared library such as libGL.so.1, by the naming rule of Debian Policy 8.1."""
    if library.startswith(("libglib-2.0.", "libgthread-2.0.")):
        return "libglib2.0-0"
    name, _, version = library.lower().partition(".so.")
    return f"{name}-{version}" if name[-1].isdigit() else f"{name}{version}"


def _not_found(binaries: Iterable[Path]) -> list[str]:
    """The shared libraries that these need and the dynamic linker does not find."""
    try:
        output = subprocess.run(
            ["ldd", *binaries], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30.0, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted({line.split()[0] for line in output.splitlines() if line.rstrip().endswith("=> not found")})
