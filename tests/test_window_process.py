"""The window on an X server, in a process of its own: its end, on one screen, on two, on one that hangs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from checkpoints import music, small_checkpoint
from live_runs import LiveRun, oscdump
from osc_sockets import free_port
from sound_server import start_sound_server
from windows import (
    ROOT,
    TIMEOUT_S,
    TwoScreens,
    bare_environment,
    fault_here,
    run,
    two_screens,
    window_manager,
    x_server,
)

from benchmarks.sound_server import SoundServer
from realtime_mer.models.checkpoint import save_checkpoint
from realtime_mer.recording.reader import read_recording

pytestmark = pytest.mark.slow


by_hand = pytest.mark.skipif(
    "REALTIME_MER_LONG_TESTS" not in os.environ, reason="takes half a minute; REALTIME_MER_LONG_TESTS=1 runs it"
)


def environment_of(display: str) -> dict[str, str]:
    """An environment in which windows are shown on this X server; skips the test if that is impossible here."""
    environment = bare_environment(DISPLAY=display)
    fault = fault_here(environment)
    if fault is not None:
        pytest.skip(f"no window can be shown here: {fault}")
    return environment


@pytest.fixture(scope="module")
def drawable() -> Iterator[dict[str, str]]:
    with x_server() as (display, _):
        yield environment_of(display)


def wait_for_window(live: LiveRun, environment: dict[str, str]) -> None:
    """Waits until the run's window is on this X server."""
    if shutil.which("xwininfo") is None:
        pytest.skip("no xwininfo (Debian: apt-get install x11-utils): this test has to know when there is a window")
    deadline_s = time.monotonic() + TIMEOUT_S
    looking = ["xwininfo", "-name", "realtime-mer"]
    while "IsViewable" not in subprocess.run(looking, env=environment, capture_output=True, text=True).stdout:
        assert live.process.poll() is None, live.wait()
        assert time.monotonic() < deadline_s, "there is no window"
        time.sleep(0.1)


def check(script: str, environment: dict[str, str], expected: str) -> None:
    """Runs the script, which has to print this and exit with 0."""
    done = run(script, environment)
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_stage_fills_the_screen_without_a_window_manager_and_q_ends_it(drawable: dict[str, str]) -> None:
    check(
        "from realtime_mer.config import DisplaySettings\n"
        "from realtime_mer.window.run import run_window\n"
        "from realtime_mer.window.application import application\n"
        "from PyQt5 import QtCore, QtGui, QtTest\n"
        "application()\n"
        "def look():\n"
        "    screen = application().primaryScreen()\n"
        "    shown, = [widget for widget in application().topLevelWidgets() if widget.isVisible()]\n"
        "    image = screen.grabWindow(0).toImage()\n"
        "    colour = QtGui.QColor('#f0e442').rgb()\n"
        "    found = sum(image.pixel(x, y) == colour for x in range(image.width()) for y in range(image.height()))\n"
        "    if found < 100 or shown.geometry() != screen.geometry():\n"
        "        QtCore.QTimer.singleShot(200, look)\n"
        "        return\n"
        "    for key in (QtCore.Qt.Key_Tab, QtCore.Qt.Key_Tab, QtCore.Qt.Key_Q):\n"
        "        QtTest.QTest.keyClick(shown.windowHandle(), key)\n"
        "feeding(10, lambda: None)\n"
        "QtCore.QTimer.singleShot(200, look)\n"
        "run_window(board, stop, settings=DisplaySettings(mode='stage'))\n"
        "print(stop.is_set())",
        drawable,
        "True\n",
    )


def test_ctrl_c_ends_it(drawable: dict[str, str]) -> None:
    """By a handler that sets `stop`, and by Python's own, which raises KeyboardInterrupt somewhere in Qt's calls."""
    check(
        "import signal\n"
        "from realtime_mer.config import DisplaySettings\n"
        "from realtime_mer.window.application import application\n"
        "from realtime_mer.window.run import run_window\n"
        "from PyQt5 import QtCore\n"
        "application()\n"
        "for handler in (lambda *_: stop.set(), signal.default_int_handler):\n"
        "    signal.signal(signal.SIGINT, handler)\n"
        "    stop.clear()\n"
        "    QtCore.QTimer.singleShot(300, lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "    run_window(board, stop, settings=DisplaySettings())\n"
        "    print(stop.is_set())",
        drawable,
        "True\nTrue\n",
    )


def test_a_decimal_comma_of_the_user_does_not_reach_the_c_library(drawable: dict[str, str], tmp_path: Path) -> None:
    """openSMILE, in this process, reads its configuration with the C library, and needs the point."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("no localedef or no source of de_DE (Debian: apt-get install locales)")
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], check=True)
    german = drawable | {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8", "LANG": "C.UTF-8"}
    assert (
        run("locale.setlocale(locale.LC_ALL, ''); print(locale.localeconv()['decimal_point'])", german).stdout == ",\n"
    )
    check(
        "from realtime_mer.config import DisplaySettings\n"
        "from realtime_mer.window.run import run_window\n"
        "feeding(5, stop.set)\n"
        "run_window(board, stop, settings=DisplaySettings())\n"
        "environment = [os.environ.get(name) for name in ('LC_ALL', 'LANG', 'LC_NUMERIC')]\n"
        "print(locale.localeconv()['decimal_point'], *environment)",
        german,
        ". de_DE.UTF-8 C.UTF-8 None\n",
    )


def test_a_garbage_collector_in_another_thread_does_no_harm_to_new_views(drawable: dict[str, str]) -> None:
    """A Qt object deleted in another thread ends the process."""
    check(
        "import gc\n"
        "from realtime_mer.config import DisplaySettings\n"
        "from realtime_mer.window.run import LiveWindow\n"
        "from realtime_mer.window.application import application\n"
        "from PyQt5 import QtCore, QtTest\n"
        "application()\n"
        "gc.freeze()\n"
        "def collect():\n"
        "    while not stop.wait(0.01): gc.collect()\n"
        "threading.Thread(target=collect, daemon=True).start()\n"
        "window = LiveWindow(board, stop, DisplaySettings())\n"
        "window.open()\n"
        "feeding(20, lambda: None)\n"
        "for i in range(24):\n"
        "    QtTest.QTest.keyClick(window, (QtCore.Qt.Key_T, QtCore.Qt.Key_M, QtCore.Qt.Key_C)[i % 3])\n"
        "    QtTest.QTest.qWait(20)\n"
        "print(window.frames_painted > 0)\n"
        "window.close()",
        drawable,
        "True\n",
    )


class SleepyRun(LiveRun):
    """A live run of which the window does nothing for three seconds, as while it is dragged about on Windows."""

    @staticmethod
    def command(*arguments: str) -> list[str]:
        script = (
            "import signal, sys, time\n"
            "from PyQt5 import QtCore\n"
            "from realtime_mer.window.application import application\n"
            "from realtime_mer import cli\n"
            "application()\n"
            "asked = []\n"
            "signal.signal(signal.SIGUSR1, lambda *_: asked.append(time.sleep(3.0)))\n"
            "sys.exit(cli.main(sys.argv[1:]))"
        )
        return [sys.executable, "-c", script, *arguments]


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    server = start_sound_server()
    server.keep_awake()
    yield server
    server.close()


@by_hand
@pytest.mark.parametrize("blocked", ["the window", "the X server"])
def test_a_window_that_hangs_costs_no_sound_and_no_prediction(
    blocked: str, server: SoundServer, deam_root: Path
) -> None:
    port = free_port()
    arguments = ("--device", "default", "--osc", f"127.0.0.1:{port}")
    with x_server() as (display, x_pid), oscdump(port) as received:
        environment = server.environment | environment_of(display)
        with (SleepyRun if blocked == "the window" else LiveRun)(*arguments, environment=environment) as live:
            received.wait_for(lambda heard: "silence" in heard.texts("/mer/status/input"), "silence before the music")
            player = server.play(deam_root / "audio" / "1009.ogg")
            received.wait_for(lambda heard: 0.0 in heard.numbers("/mer/held"), "music")
            before = len(received.numbers("/mer/frame"))
            os.kill(x_pid, signal.SIGSTOP) if blocked == "the X server" else live.process.send_signal(signal.SIGUSR1)
            time.sleep(3.0)
            n_meanwhile = len(received.numbers("/mer/frame")) - before
            os.kill(x_pid, signal.SIGCONT)
            assert player.wait(timeout=TIMEOUT_S) == 0
            received.wait_for(lambda heard: heard.numbers("/mer/held")[-1:] == [1.0], "silence after the music")
            code, _, errors = live.end()
    assert code == 0, errors
    assert "no window" not in errors
    assert n_meanwhile >= 3
    frames = received.numbers("/mer/frame")
    assert frames == list(range(len(frames))), "every prediction must arrive, once, in order"
    assert set(received.numbers("/mer/status/drops")) == {0.0}
    assert set(received.numbers("/mer/status/losses")) == {0.0}


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=by_hand)])
def test_an_x_server_that_dies_takes_nothing_with_it_but_the_window(number: int, tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "recording"
    save_checkpoint(tmp_path / "model.safetensors", small_checkpoint())
    model = ("--checkpoint", str(tmp_path / "model.safetensors"))
    with x_server() as (display, x_pid), oscdump(port) as received:
        environment = environment_of(display)
        arguments = ("demo", "--no-sound", "--osc", f"127.0.0.1:{port}", "--record", str(folder), *model)
        with LiveRun(*arguments, environment=environment) as live:
            wait_for_window(live, environment)
            received.wait_for(lambda heard: len(heard.numbers("/mer/frame")) >= 2, "predictions")
            os.kill(x_pid, number)
            before = len(received.numbers("/mer/frame"))
            received.wait_for(lambda heard: len(heard.numbers("/mer/frame")) >= before + 3, "more predictions")
            code, output, errors = live.end()
    assert code == 0, errors
    assert "X11" not in errors, "Qt's message goes to the log"
    assert "the display is gone; the run goes on without a window" in errors
    assert "Traceback" not in errors
    assert "valence" in output, "the terminal view, line by line"
    frames = received.numbers("/mer/frame")
    assert frames == list(range(len(frames))), "every prediction must arrive, once, in order"
    recorded = read_recording(folder)
    assert (recorded.fault, len(recorded.updates) >= len(frames)) == ("", True)
    replay = LiveRun.command("replay", str(folder), "--fast", "--no-osc", "--no-plot", "--no-terminal", *model)
    done = subprocess.run(replay, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "identical" in done.stderr


@by_hand
def test_a_replay_whose_display_dies_still_says_how_it_compares(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.safetensors", small_checkpoint())
    model = ("--checkpoint", str(tmp_path / "model.safetensors"))
    soundfile.write(tmp_path / "song.wav", music(20.0), 44_100, subtype="PCM_16")
    quiet = ("--no-osc", "--no-terminal", *model)
    sound = ("--input", str(tmp_path / "song.wav"), "--fast", "--no-plot")
    folder = tmp_path / "recording"
    subprocess.run(LiveRun.command(*sound, "--record", str(folder), *quiet), timeout=TIMEOUT_S, check=True)
    table = folder / "predictions.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",false", ",true", 1), encoding="utf-8")
    with x_server() as (display, x_pid):
        environment = environment_of(display)
        with LiveRun("replay", str(folder), *quiet, environment=environment) as live:
            wait_for_window(live, environment)
            os.kill(x_pid, signal.SIGKILL)
            code, _, errors = live.wait()
    assert code == 1, errors
    assert "the display is gone" in errors
    assert "1 of" in errors
    assert "differ" in errors


# On one screen and on two

# The tests of test_window.py whose outcome depends on the display.
ON_X = "screen or stage or left or escape or wheel or runs_until or keep_running"


def test_keys_modes_and_places_work_on_an_x_server() -> None:
    with x_server() as (display, _), window_manager(display):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_window.py", "-k", ON_X],
            cwd=ROOT,
            env=bare_environment(DISPLAY=display, WINDOW_TESTS_PLATFORM="xcb"),
            capture_output=True,
            text=True,
            timeout=15 * TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    if " passed" not in done.stdout:
        pytest.skip(done.stdout)


@pytest.fixture(scope="module")
def screens() -> Iterator[TwoScreens]:
    with two_screens() as screens:
        yield screens


# Shows a window and prints its place, once it is as expected or after ten seconds.
SHOW = """
import subprocess, time
from pathlib import Path
from realtime_mer.config import DisplaySettings
from realtime_mer.window.application import application
from realtime_mer.window.run import LiveWindow
from PyQt5 import QtCore, QtTest
application()
def show(remembered=None, **settings):
    global window
    left = remembered and Path(remembered)
    window = LiveWindow(board, stop, DisplaySettings(keep_running=True, **settings), remembered=left)
    window.open(screen=settings.get('screen'))
    QtTest.QTest.qWaitForWindowExposed(window)
def key(name):
    QtTest.QTest.keyClick(window, getattr(QtCore.Qt, "Key_" + name))
def place():
    screen = window.screen()
    room, place = screen.geometry(), window.geometry()
    lies = "fills" if place == room else "inside" if room.contains(place) else f"outside {place.getRect()}"
    return ",".join((screen.name(), "full" if window.isFullScreen() else "window", lies))
def report(expected):
    end_s, since_s = time.monotonic() + 10.0, None
    while time.monotonic() < end_s:
        QtTest.QTest.qWait(20)
        since_s = (since_s or time.monotonic()) if place() == expected else None
        # By then the window manager is done, and so is the window's own timer.
        if since_s is not None and time.monotonic() - since_s > 0.3:
            break
    print(place())
"""


def check_places(script: str, screens: TwoScreens) -> None:
    """Runs it after SHOW; everything that it expects has to come true."""
    done = run(SHOW + script, screens.environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == re.findall(r"report\('([^']*)'\)", script)


def test_the_stage_is_on_the_chosen_screen_and_n_goes_to_the_next_in_every_state(screens: TwoScreens) -> None:
    screens.plug()
    check_places(
        "show(mode='stage', screen=2); report('DUMMY1,full,fills')\n"
        "key('Escape'); report('DUMMY1,window,inside'); key('M'); report('DUMMY1,window,inside'); window.close()\n"
        "show(screen=1); window.resize(900, 600); report('DUMMY0,window,inside')\n"
        "key('N'); report('DUMMY1,window,inside'); key('N'); report('DUMMY0,window,inside')\n"
        "key('M'); report('DUMMY0,full,fills'); key('N'); report('DUMMY1,full,fills')\n"
        "key('N'); report('DUMMY0,full,fills'); key('M'); report('DUMMY0,window,inside')",
        screens,
    )


def test_a_window_on_a_screen_that_is_unplugged_comes_back(screens: TwoScreens) -> None:
    screens.plug()
    check_places(
        "show(screen=2, mode='stage'); report('DUMMY1,full,fills')\n"
        "subprocess.run(['xrandr', '--output', 'DUMMY1', '--off'], check=True); report('DUMMY0,full,fills')\n"
        "key('Escape'); report('DUMMY0,window,inside'); assert not stop.is_set()",
        screens,
    )


def test_a_place_on_a_screen_that_is_gone_comes_back_on_one_that_is_there(screens: TwoScreens, tmp_path: Path) -> None:
    left = str(tmp_path / "window.json")
    screens.plug()
    check_places(
        f"show({left!r}, screen=2); window.resize(900, 600); report('DUMMY1,window,inside'); window.close()\n"
        f"show({left!r}); report('DUMMY1,window,inside'); window.close()",
        screens,
    )
    screens.unplug()
    check_places(f"show({left!r}); report('DUMMY0,window,inside'); window.close()", screens)
