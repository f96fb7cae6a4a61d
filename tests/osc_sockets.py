"""Sockets on free ports of this computer, for the tests of OSC, and waiting for their effects."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Only against hanging.
GENEROUS_S = 30.0
HERE = "127.0.0.1"


def eventually(is_so: Callable[[], object]) -> None:
    end_s = time.monotonic() + GENEROUS_S
    while not is_so():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.005)


def open_files() -> int:
    """Of this process; 0 if the system does not show it."""
    files = Path("/proc/self/fd")
    return len(list(files.iterdir())) if files.exists() else 0


def free_port(*, tcp: bool = False) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as probe:
        probe.bind((HERE, 0))
        port: int = probe.getsockname()[1]
        return port


def udp_socket(host: str = HERE) -> socket.socket:
    """On a free port of this address."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.bind((host, 0))
    except OSError:
        made.close()
        raise
    made.settimeout(GENEROUS_S)
    return made


def sender_to(port: int, *, tcp: bool = False) -> socket.socket:
    """Connected to this computer's port."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    made.settimeout(GENEROUS_S)
    made.connect((HERE, port))
    return made


def name_of(sender: socket.socket) -> str:
    """HOST:PORT, as receivers name it."""
    host, port = sender.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Receiver:
    """A UDP socket on a free port."""

    def __init__(self, host: str = HERE) -> None:
        self.socket = udp_socket(host)
        self.host = host
        self.port: int = self.socket.getsockname()[1]

    def receive(self) -> bytes:
        return self.socket.recv(65_536)

    def drain(self) -> list[bytes]:
        """All packets so far, since packets on one computer arrive in order."""
        with socket.socket(self.socket.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", (self.host, self.port))
        return list(iter(self.receive, b"end"))


@contextlib.contextmanager
def receiving(host: str = HERE) -> Iterator[Receiver]:
    """Skips the test if this computer has no such address."""
    try:
        made = Receiver(host)
    except OSError as error:
        pytest.skip(f"no {host} here: {error}")
    with made.socket:
        yield made


def skip_without(host: str) -> None:
    """Skips the test if this is an IPv6 address and this computer has none."""
    if ":" in host:
        with receiving("::1"):
            pass
