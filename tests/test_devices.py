"""Which input `--device` means, and what `devices` lists: made-up lists, and a real sound server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sound_server import start_sound_server

from benchmarks.sound_server import SoundServer
from realtime_mer.sources import devices
from realtime_mer.sources.devices import DeviceError, InputDevice, choose, devices_table, find_again

INTERFACE = InputDevice("Scarlett 2i2 USB: Audio (hw:1,0)", 0, "ALSA", 2, 48_000, False, False)
LAPTOP = InputDevice("HDA Intel: ALC257 (hw:0,0)", 1, "ALSA", 2, 44_100, False, False)
DEFAULT = InputDevice("default", 4, "ALSA", 2, 44_100, True, False)
SAME_ON_JACK = InputDevice("Scarlett 2i2 USB", 7, "JACK Audio Connection Kit", 2, 48_000, False, False)
MONITOR = InputDevice("Monitor of Speakers", 4, "PulseAudio", 2, 48_000, False, True, True, "speakers.monitor")
INPUTS = (INTERFACE, LAPTOP, DEFAULT, SAME_ON_JACK, MONITOR)


@pytest.mark.parametrize(
    ("wanted", "host_api", "expected"),
    [
        ("default", None, DEFAULT),
        ("1", None, LAPTOP),
        ("4", None, DEFAULT),
        ("alc257", None, LAPTOP),
        ("HDA Intel: ALC257 (hw:0,0)", None, LAPTOP),
        ("scarlett", "jack", SAME_ON_JACK),
        ("Scarlett", "ALSA", INTERFACE),
        ("scarlett 2i2 usb", None, SAME_ON_JACK),
        ("speakers.monitor", None, MONITOR),
        ("monitor of", None, MONITOR),
        ("speakers", "pulse", MONITOR),
    ],
)
def test_the_chosen_input(wanted: str, host_api: str | None, expected: InputDevice) -> None:
    assert choose(INPUTS, wanted, host_api) is expected


def test_the_default_input_of_a_host_api() -> None:
    jack = replace(SAME_ON_JACK, is_host_api_default=True)
    inputs = (INTERFACE, replace(DEFAULT, is_host_api_default=True), jack, replace(MONITOR, is_host_api_default=True))
    assert choose(inputs, "default", "jack") is jack
    assert choose(inputs, "default", "pulse").pulse_source == "speakers.monitor"
    assert choose(inputs, "default", "alsa").name == "default"
    assert choose(inputs, "default", None).name == "default"


@pytest.mark.parametrize("device", INPUTS)
def test_the_table_s_argument_chooses_its_input(device: InputDevice) -> None:
    assert choose(INPUTS, device.argument, None) is device
    line = next(line for line in devices_table(INPUTS).splitlines() if line.split()[0] == device.argument)
    assert device.name in line
    assert ("captures what is playing" in line) == device.hears_playback


@pytest.mark.parametrize(
    ("wanted", "host_api", "reasons"),
    [
        ("scarlett", None, ["any of 2 inputs", "--device 0", "--device 7", "JACK"]),
        ("2", None, ["index 2", "--device speakers.monitor"]),
        ("theremin", None, ["called 'theremin'", "ALC257"]),
        ("default", "CoreAudio", ["'CoreAudio'", "ALSA, JACK Audio Connection Kit, PulseAudio"]),
        ("default", "JACK", ["None of these inputs is the default", "--device 7"]),
        ("", None, ["any of 5 inputs"]),
    ],
)
def test_the_error_for_an_unknown_input_lists_the_inputs(wanted: str, host_api: str | None, reasons: list[str]) -> None:
    with pytest.raises(DeviceError) as raised:
        choose(INPUTS, wanted, host_api)
    assert all(reason in str(raised.value) for reason in reasons), str(raised.value)


def test_the_error_without_any_input_has_the_remedy() -> None:
    with pytest.raises(DeviceError, match=r"no sound input\. Plug one in"):
        choose([], "default", None)


@pytest.mark.parametrize(
    ("now_there", "found"),
    [
        ([LAPTOP, replace(INTERFACE, index=5)], 5),
        ([replace(INTERFACE, name="Scarlett 2i2 USB: Audio (hw:3,0)", index=2), LAPTOP], 2),
        ([replace(INTERFACE, index=6), INTERFACE], 0),
        ([replace(INTERFACE, host_api="OSS", index=3), replace(INTERFACE, index=9)], 9),
        ([replace(INTERFACE, remixes=True, index=3), replace(INTERFACE, index=9)], 9),
    ],
)
def test_a_lost_input_is_found_again_by_name_and_host_api(
    now_there: list[InputDevice], found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "list_inputs", lambda: now_there)
    assert find_again(INTERFACE).index == found


@pytest.mark.parametrize("now_there", [[], [LAPTOP, SAME_ON_JACK], [replace(INTERFACE, host_api="OSS")]])
def test_another_input_is_not_taken_for_the_lost_one(
    now_there: list[InputDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "list_inputs", lambda: now_there)
    with pytest.raises(DeviceError, match="Waiting for its return"):
        find_again(INTERFACE)


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    server = start_sound_server()
    yield server
    server.close()


def list_devices(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "realtime_mer", "devices"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_the_sources_of_a_server_are_listed_with_their_own_rates(server: SoundServer, tmp_path: Path) -> None:
    """In any locale: pactl translates even "s16le 2ch 44100Hz"; this one lists nothing unless LC_ALL is C.UTF-8."""
    module = server.load_sink("studio", rate=96_000, channels=6)
    (tmp_path / "pactl").write_text(
        '#!/bin/sh\n[ "$LC_ALL" = C.UTF-8 ] || { echo "[]"; exit 0; }\nexec /usr/bin/env PATH="$REAL" pactl "$@"\n'
    )
    (tmp_path / "pactl").chmod(0o755)
    real = server.environment["PATH"]
    translating = {"PATH": f"{tmp_path}:{real}", "REAL": real, "LC_ALL": "it_IT.UTF-8"}
    listed = list_devices({**server.environment, **translating})
    server.unload(module)
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = {line.split()[0]: line for line in listed.stdout.splitlines() if line}
    for text in ("96000 Hz", " 6 ", "captures what is playing"):
        assert text in lines["studio.monitor"]
    for text in ("44100 Hz", "default"):
        assert text in lines["music.monitor"]


@pytest.mark.slow
def test_the_error_without_a_server_has_the_remedy(tmp_path: Path) -> None:
    listed = list_devices({**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)})
    if listed.returncode == 0:
        # A machine with a sound card of its own.
        assert "None of these inputs is known to capture what this machine plays" in listed.stdout
    else:
        assert (listed.returncode, listed.stdout) == (1, "")
        assert listed.stderr.startswith("realtime-mer: error: This machine has no sound input. Plug one in, or start")


def test_the_error_without_portaudio_has_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sounddevice raises OSError without the library; here, a module of that name does."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('no audio')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(DeviceError, match=r"^The library PortAudio cannot be used \(no audio\)\. .*nstall"):
        devices.portaudio()
