"""Whether a window can be shown, and the reasons if not."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from windows import bare_environment, fault_here, run, x_server

from realtime_mer import window


@pytest.fixture(scope="module")
def x_display() -> Iterator[str]:
    with x_server() as (display, _):
        yield display


def test_the_package_itself_is_cheap() -> None:
    told = run(
        "import realtime_mer.window; print(sorted({'PyQt5', 'pyqtgraph'} & set(sys.modules)))",
        bare_environment(),
    )
    assert (told.returncode, told.stdout) == (0, "[]\n"), told.stderr


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there, a display is not named by the environment")
def test_no_display() -> None:
    fault = fault_here(bare_environment())
    assert fault is not None
    assert "neither DISPLAY nor WAYLAND_DISPLAY is set" in fault


def test_a_display_that_answers(x_display: str) -> None:
    fault = fault_here(bare_environment(DISPLAY=x_display))
    if fault is not None and "apt-get install" in fault:
        pytest.skip(fault)
    assert fault is None


needs_xcb = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 is Linux's")


@needs_xcb
def test_a_display_without_a_server(x_display: str) -> None:
    fault = fault_here(bare_environment(DISPLAY=":4999"))
    assert fault is not None
    if "apt-get install" in fault:
        pytest.skip(fault)
    assert "could not connect to display :4999" in fault
    assert "Is DISPLAY=:4999 right" in fault


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
        fault = fault_here(
            bare_environment(DISPLAY=f"127.0.0.1:{number}"),
            "from realtime_mer import window; window._PROBE_TIMEOUT_S = 1.5",
        )
    assert fault is not None
    if "apt-get install" in fault:
        pytest.skip(fault)
    assert fault == f"The display has not answered for 1.5 s. Is DISPLAY=127.0.0.1:{number} right?"


@needs_xcb
def test_the_probe_does_not_crash() -> None:
    """A core file or a crash report would be left behind."""
    told = subprocess.run(
        [sys.executable, window._PROBE], env=bare_environment(DISPLAY=":4999"), capture_output=True, check=False
    )
    assert told.returncode == 1, told.stderr


def test_a_platform_that_does_not_exist() -> None:
    fault = fault_here(bare_environment(QT_QPA_PLATFORM="nonsense"))
    assert fault is not None
    assert 'Could not find the Qt platform plugin "nonsense"' in fault
    assert "Is QT_QPA_PLATFORM=nonsense right" in fault


@needs_xcb
def test_wayland_alone_needs_to_be_asked_for() -> None:
    fault = fault_here(bare_environment(WAYLAND_DISPLAY="wayland-77"))
    assert fault is not None
    if "apt-get install" in fault:
        pytest.skip(fault)
    assert fault.endswith("For Wayland, set QT_QPA_PLATFORM=wayland.")


def test_a_package_that_does_not_work() -> None:
    fault = fault_here(
        bare_environment(QT_QPA_PLATFORM="offscreen"),
        "import importlib\ndef broken(name): raise AttributeError('numpy has no float.')\n"
        "importlib.import_module = broken",
    )
    assert fault == "Qt or pyqtgraph cannot be loaded: numpy has no float."


@pytest.mark.parametrize("missing", ["PyQt5", "pyqtgraph"])
def test_a_package_that_is_not_installed(missing: str) -> None:
    fault = fault_here(
        bare_environment(QT_QPA_PLATFORM="offscreen"),
        "import importlib.util\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {missing!r} else find(name)",
    )
    assert fault == f"{missing}, which draws the window, is not installed: pip install PyQt5 pyqtgraph."


@pytest.fixture
def broken_libraries(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Makes an environment in which these libraries of the system cannot be loaded, and ldd says so."""

    def make(*names: str) -> dict[str, str]:
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
        return bare_environment(DISPLAY=":4999", LD_LIBRARY_PATH=str(libraries), PATH=path)

    return make


@needs_xcb
@pytest.mark.parametrize(
    ("names", "packages"),
    [
        # Importing Qt needs the first; its X11 plugin needs the others.
        (["libGL.so.1"], "libgl1"),
        (["libxcb-icccm.so.4", "libxcb-xinerama.so.0"], "libxcb-icccm4 libxcb-xinerama0"),
    ],
)
def test_missing_system_libraries(
    broken_libraries: Callable[..., dict[str, str]], names: list[str], packages: str
) -> None:
    fault = fault_here(broken_libraries(*names))
    assert fault == (
        f"Qt lacks these system libraries: {', '.join(names)}. On Debian and Ubuntu: sudo apt-get install {packages}"
    )


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libGL.so.1", "libgl1"),
        ("libX11-xcb.so.1", "libx11-xcb1"),
        ("libX11.so.6", "libx11-6"),
        ("libdbus-1.so.3", "libdbus-1-3"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
        ("libxkbcommon-x11.so.0", "libxkbcommon-x11-0"),
    ],
)
def test_packages_are_named_as_in_debian(library: str, package: str) -> None:
    assert window._debian_package(library) == package
