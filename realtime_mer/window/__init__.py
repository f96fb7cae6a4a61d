"""The window. Importing this package is cheap: Qt and pyqtgraph are loaded where a window is asked for."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# What tells Qt where to draw, but on Windows and macOS.
_CHOICES = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
_PROBE = Path(__file__).with_name("probe.py")
# A display that answers does so within a fraction of this; one far away that does not is given up.
_PROBE_TIMEOUT_S = 5.0

# The system's libraries that PyQt5's wheel asks for and does not bring, and Debian 12's and Ubuntu's packages for them.
_PACKAGE_OF = {
    "libGL.so.1": "libgl1",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxcb.so.1": "libxcb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxkbcommon.so.0": "libxkbcommon0",
}


def display_fault() -> str | None:
    """Why no window can be shown here, and what to do about it, in sentences; None where one can.

    Takes a fraction of a second, and 5 s at most. Leaves Qt and pyqtgraph imported where it returns None.
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
        # Looks while this process imports what the window needs.
        probe = _start_probe() if by_x11_or_wayland else None
    except OSError as error:
        return f"Whether there is a display cannot be found out: {sys.executable or 'Python'} does not start ({error})."
    try:
        importlib.import_module("realtime_mer.window.qt")
        return None if probe is None else _probe_fault(probe)
    except Exception as error:  # noqa: BLE001 - whatever they raise when they do not fit together
        return _missing_libraries_fault() or f"What draws the window cannot be loaded: {str(error).rstrip('.')}."
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
        _nothing, told = probe.communicate(timeout=_PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"The display has not answered for {_PROBE_TIMEOUT_S:g} s. Is {display} right?"
    if probe.returncode == 0:
        return None
    # What Qt says of a plugin that the dynamic linker refuses.
    missing = _missing_libraries_fault() if "even though it was found" in told else None
    if missing is not None:
        return missing
    # The first message has the cause, but for a usual remark; what follows lists Qt's plugins.
    causes = [line for line in told.splitlines() if line.strip() and not line.startswith("QStandardPaths:")]
    cause = causes[0].strip().rstrip(".") if causes else f"Qt ended with {probe.returncode}"
    if chosen == ["WAYLAND_DISPLAY"]:
        return f"Qt cannot draw: {cause}. For Wayland, set QT_QPA_PLATFORM=wayland."
    return f"Qt cannot draw: {cause}. Is {display} right, and may this user draw there (xauth)?"


def _missing_libraries_fault() -> str | None:
    """What to install where PyQt5's wheel lacks libraries of the system; None where ldd finds all, or is not there."""
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
    packages = sorted({_PACKAGE_OF[library] for library in missing if library in _PACKAGE_OF})
    cure = f" On Debian and Ubuntu: sudo apt-get install {' '.join(packages)}" if packages else ""
    return f"Qt lacks libraries of the system: {', '.join(missing)}.{cure}"


def _not_found(binaries: Iterable[Path]) -> list[str]:
    """The shared libraries that these need and the dynamic linker does not find."""
    try:
        told = subprocess.run(
            ["ldd", *binaries], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30.0, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted({line.split()[0] for line in told.splitlines() if line.rstrip().endswith("=> not found")})
