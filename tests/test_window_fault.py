"""Whether a window can be shown, and the reasons if not."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from windows import bare_environment, fault_here, run, x_server

from realtime_mer import window

needs_xcb = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 is Linux's")


def found(environment: dict[str, str], preparation: str = "") -> str:
    """The fault in this environment, empty if there is none; skips the test if this machine lacks Qt's libraries."""
    fault = fault_here(bare_environment(**environment), preparation) or ""
    if "apt-get install" in fault:
        pytest.skip(fault)
    return fault


def test_importing_the_package_does_not_import_qt() -> None:
    script = "import realtime_mer.window; print(sorted({'PyQt5', 'pyqtgraph'} & set(sys.modules)))"
    done = run(script, bare_environment())
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_display_that_answers_has_no_fault() -> None:
    with x_server() as (display, _):
        assert found({"DISPLAY": display}) == ""


@needs_xcb
@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({}, ["neither DISPLAY nor WAYLAND_DISPLAY is set"]),
        ({"DISPLAY": ":4999"}, ["could not connect to display :4999", "Is DISPLAY=:4999 right"]),
        (
            {"QT_QPA_PLATFORM": "nonsense"},
            ['Could not find the Qt platform plugin "nonsense"', "Is QT_QPA_PLATFORM=nonsense right"],
        ),
        ({"WAYLAND_DISPLAY": "wayland-77"}, ["For Wayland, set QT_QPA_PLATFORM=wayland."]),
    ],
)
def test_a_display_that_cannot_be_opened_is_named(environment: dict[str, str], parts: list[str]) -> None:
    fault = found(environment)
    assert all(part in fault for part in parts), fault


@pytest.mark.slow
@needs_xcb
def test_a_display_that_does_not_answer() -> None:
    """Something listens where an X server would, and never answers."""
    with socket.socket() as silent:
        for number in range(60, 100):
            try:
                silent.bind(("127.0.0.1", 6000 + number))
                break
            except OSError:
                continue
        silent.listen()
        shortened = "from realtime_mer import window; window._PROBE_TIMEOUT_S = 1.5"
        fault = found({"DISPLAY": f"127.0.0.1:{number}"}, shortened)
    assert fault == f"The display has not answered for 1.5 s. Is DISPLAY=127.0.0.1:{number} right?"


@needs_xcb
def test_the_probe_does_not_crash() -> None:
    """A core file or a crash report would be left behind."""
    done = subprocess.run(
        [sys.executable, window._PROBE], env=bare_environment(DISPLAY=":4999"), capture_output=True, check=False
    )
    assert done.returncode == 1, done.stderr


@pytest.mark.parametrize(
    ("preparation", "expected"),
    [
        (
            "import importlib\ndef broken(name): raise AttributeError('numpy has no float.')\n"
            "importlib.import_module = broken",
            "Qt or pyqtgraph cannot be loaded: numpy has no float.",
        ),
        (
            "import importlib.util\nfind = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name: None if name == 'pyqtgraph' else find(name)",
            "pyqtgraph, which draws the window, is not installed: pip install PyQt5 pyqtgraph.",
        ),
    ],
)
def test_a_package_that_is_broken_or_missing(preparation: str, expected: str) -> None:
    assert found({"QT_QPA_PLATFORM": "offscreen"}, preparation) == expected


@needs_xcb
@pytest.mark.parametrize(
    ("names", "packages"),
    [
        # Importing Qt needs the first; its X11 plugin needs the others.
        (["libGL.so.1"], "libgl1"),
        (["libxcb-icccm.so.4", "libxcb-xinerama.so.0"], "libxcb-icccm4 libxcb-xinerama0"),
    ],
)
def test_missing_system_libraries_are_named_with_their_packages(
    tmp_path: Path, names: list[str], packages: str
) -> None:
    """These libraries cannot be loaded, and ldd says so."""
    if importlib.util.find_spec("PyQt5") is None:
        pytest.skip("no PyQt5")
    libraries, programs = tmp_path / "lib", tmp_path / "bin"
    libraries.mkdir()
    programs.mkdir()
    for name in names:
        (libraries / name).write_bytes(b"no library")
    lines = "\n".join(f"\t{name} => not found" for name in names)
    (programs / "ldd").write_text(f"#!/bin/sh\ncat <<'END'\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n{lines}\nEND\n")
    (programs / "ldd").chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    assert fault_here(bare_environment(DISPLAY=":4999", LD_LIBRARY_PATH=str(libraries), PATH=path)) == (
        f"Qt lacks these system libraries: {', '.join(names)}. On Debian and Ubuntu: sudo apt-get install {packages}"
    )


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libX11-xcb.so.1", "libx11-xcb1"),
        ("libX11.so.6", "libx11-6"),
        ("libdbus-1.so.3", "libdbus-1-3"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
        ("libxkbcommon-x11.so.0", "libxkbcommon-x11-0"),
    ],
)
def test_packages_are_named_as_in_debian(library: str, package: str) -> None:
    assert window._debian_package(library) == package
