"""QLC+ in operate mode, and its state as its web access reports it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from osc_sockets import free_port
from PyQt5.QtCore import qChecksum
from PyQt5.QtNetwork import QAbstractSocket, QNetworkInterface

# Only against hanging.
_TIMEOUT_S = 60.0


def channel_number(address: str) -> int:
    """What QLC+ makes of an OSC address (plugins/osc/osccontroller.cpp, getHash)."""
    checksum: Any = qChecksum  # whose types know nothing of bytes
    return int(checksum(address.encode()))


def loopback_line() -> int:
    """Which of its OSC plugin's lines is 127.0.0.1: they are this machine's IPv4 addresses, sorted as texts."""
    entries = [entry for interface in QNetworkInterface.allInterfaces() for entry in interface.addressEntries()]
    ipv4 = {
        entry.ip().toString()
        for entry in entries
        if entry.ip().protocol() == QAbstractSocket.NetworkLayerProtocol.IPv4Protocol
    }
    return sorted(ipv4).index("127.0.0.1")


class QLCPlus:
    """A running QLC+. web_port: of its web access."""

    def __init__(self, web_port: int) -> None:
        self._web = f"http://127.0.0.1:{web_port}"

    def slider(self, number: int) -> int:
        """Where the slider of this ID is, 0 to 255."""
        return int(self._ask(f"getWidgetStatus|{number}"))

    def cue(self, number: int) -> int:
        """Which step of its chaser the cue list of this ID plays, counted from 0; -1 if none."""
        state, *step = self._ask(f"getWidgetStatus|{number}").split("|")
        return int(step[0]) if state == "PLAY" else -1

    def channels(self, n_channels: int) -> list[int]:
        """What goes out to the lights, 0 to 255, by the first channels of the first universe."""
        answer = self._ask(f"getChannelsValues|1|1|{n_channels}").split("|")
        return [int(value) for value in answer[1::3]]

    def configuration(self) -> str:
        """The web page that shows what is plugged in where."""
        with urllib.request.urlopen(f"{self._web}/config", timeout=_TIMEOUT_S) as page:
            content: bytes = page.read()
            return content.decode()

    def wait_for(self, condition: Callable[[QLCPlus], bool], what: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition(self):
            assert time.monotonic() < deadline, f"QLC+ never showed {what}"
            time.sleep(0.1)

    def _ask(self, question: str) -> str:
        async def ask() -> str:
            async with aiohttp.ClientSession() as session:
                # Without a good-bye: to one, QLC+ 4.12 answers without end.
                web_socket = await session.ws_connect(f"{self._web}/qlcplusWS", autoclose=False)
                await web_socket.send_str(f"QLC+API|{question}")
                answer = await web_socket.receive_str(timeout=_TIMEOUT_S)
            return answer.split("|", maxsplit=2)[2]

        return asyncio.run(ask())


@contextlib.contextmanager
def qlcplus(workspace: Path, input_profile: Path, folder: Path) -> Iterator[QLCPlus]:
    """QLC+ in operate mode with this workspace and no other settings; what it needs lies in the folder."""
    if shutil.which("qlcplus") is None:
        pytest.skip("no qlcplus on this machine: this test needs it (Debian's qlcplus)")
    profiles = folder / ".qlcplus" / "inputprofiles"
    profiles.mkdir(parents=True)
    shutil.copy(input_profile, profiles)
    folder.chmod(0o700)
    web_port = free_port(tcp=True)
    own = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    program = subprocess.Popen(
        # --nowm: without it, root's own input profiles are not looked for.
        ["qlcplus", "--nowm", "--open", str(workspace), "--operate", "--web", "--web-port", str(web_port)],
        env=os.environ | own,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_port(web_port, program)
        yield QLCPlus(web_port)
    finally:
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def _wait_for_port(port: int, program: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        assert program.poll() is None, "QLC+ ended"
        assert time.monotonic() < deadline, "QLC+ never opened its web access"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.1)
