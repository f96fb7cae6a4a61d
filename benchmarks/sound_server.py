"""A real sound server with virtual sinks, as the sound card of benchmarks and tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_TIMEOUT_S = 20.0


class NoSoundServerError(RuntimeError):
    """PulseAudio is not installed."""


class SoundServer:
    """A separate PulseAudio, whose default source is the monitor of its sink `music`.

    Raises NoSoundServerError if PulseAudio is not installed.
    """

    def __init__(self) -> None:
        for command in ("pulseaudio", "pactl", "paplay"):
            if shutil.which(command) is None:
                raise NoSoundServerError(f"{command} not found. On Debian: apt-get install pulseaudio pulseaudio-utils")
        # Short, since the path of a socket is limited.
        self._runtime = tempfile.mkdtemp(prefix="mer")
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": self._runtime, "HOME": self._runtime}
        for name in ("PULSE_SERVER", "PULSE_SOURCE", "PULSE_SINK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"):
            self.environment.pop(name, None)
        self._played: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self, rate_hz: int = 44_100) -> None:
        """Starts the server, with its sink."""
        self._run("pulseaudio", "--start", "--exit-idle-time=-1", "--log-target=null")
        self.load_sink("music", rate=rate_hz)
        self.pactl("set-default-sink", "music")
        self.pactl("set-default-source", "music.monitor")

    def load_sink(self, name: str, **arguments: int | str) -> str:
        """Loads a virtual sink; returns its module's number, for `unload`."""
        given = [f"{key}={value}" for key, value in arguments.items()]
        return self.pactl("load-module", "module-null-sink", f"sink_name={name}", *given).strip()

    def unload(self, module: str) -> None:
        self.pactl("unload-module", module)

    def pactl(self, *arguments: str) -> str:
        return self._run("pactl", *arguments)

    def play(self, path: Path, sink: str = "music") -> subprocess.Popen[bytes]:
        """Plays a file that libsndfile can read, in the background, each channel to the sink's of the same number.

        An idle sink loses a few hundredths of a second at the start.
        """
        command = ["paplay", f"--device={sink}", "--no-remap", "--no-remix", str(path)]
        player = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)
        self._played.append(player)
        return player

    def keep_awake(self, sink: str = "music") -> None:
        """Records from the sink from now on: an idle virtual sink has no sound for its first two seconds."""
        command = ["parec", f"--device={sink}.monitor", "--latency-msec=10"]
        self._played.append(subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL))
        time.sleep(2.5)

    def kill(self) -> None:
        """Ends the server, as in a crash or a restart."""
        self._run("pulseaudio", "--kill")
        deadline = time.monotonic() + _TIMEOUT_S
        while subprocess.run(["pulseaudio", "--check"], env=self.environment, check=False).returncode == 0:
            assert time.monotonic() < deadline, "the sound server does not end"
            time.sleep(0.05)

    def pid(self) -> str:
        return (Path(self._runtime) / "pulse" / "pid").read_text().strip()

    def close(self) -> None:
        for player in self._played:
            player.kill()
            player.wait()
        subprocess.run(["pulseaudio", "--kill"], env=self.environment, check=False, capture_output=True)
        shutil.rmtree(self._runtime, ignore_errors=True)

    def _run(self, *command: str) -> str:
        run = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        assert run.returncode == 0, f"{command}: {run.stderr}"
        return run.stdout
