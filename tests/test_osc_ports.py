from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest
from osc_corpus import PING
from osc_sockets import (
    GENEROUS_S,
    HERE,
    name_of,
    open_files,
    sender_to,
    skip_without,
    udp_socket,
)

from realtime_mer.osc import OscError, ports
from realtime_mer.osc.ports import GIVE_ADDRESS, Datagrams, look_up, open_port, sender_text

# The addresses that a name server gives for "stage", as in socket.getaddrinfo.
BOTH = [
    (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_DGRAM, 17, "", (HERE, 0)),
]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own way")


def opened(host: str = HERE, port: int = 0, *, tcp: bool = False, buffer_bytes: int | None = None) -> socket.socket:
    return open_port(host, port, failure="It cannot be opened", if_taken="End it.", tcp=tcp, buffer_bytes=buffer_bytes)


def port_of(made: socket.socket) -> int:
    port: int = made.getsockname()[1]
    return port


def next_of(datagrams: Datagrams) -> tuple[bytes, str, int]:
    """Waits for it. The sender as HOST:PORT."""
    end_s = time.monotonic() + GENEROUS_S
    while True:
        with contextlib.suppress(BlockingIOError):
            datagram, sender, n_dropped = datagrams.receive()
            return datagram, sender_text(sender), n_dropped
        assert time.monotonic() < end_s, "it never came"
        time.sleep(0.001)


# --- names ---


def test_ipv4_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def look(_host: str, _port: int, *, type: int, flags: int) -> object:
        asked.append((type, flags))
        return BOTH

    monkeypatch.setattr(socket, "getaddrinfo", look)
    assert look_up("stage", 0) == [(socket.AF_INET, (HERE, 0)), (socket.AF_INET6, ("::1", 0, 0, 0))]
    look_up(HERE, 9, tcp=True, flags=socket.AI_NUMERICHOST)
    assert asked == [(socket.SOCK_DGRAM, 0), (socket.SOCK_STREAM, socket.AI_NUMERICHOST)]
    with opened("stage") as made:
        assert made.getsockname()[0] == HERE


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "x" * 70 + ".local", "no-such-host.invalid", "fe80::1%nowhere"])
def test_a_name_without_an_address_is_one_kind_of_error(host: str) -> None:
    with pytest.raises(OSError, match=r"."):
        look_up(host, 9)


# --- a port that is had ---


@pytest.mark.parametrize(
    ("host", "to"),
    [(HERE, HERE), ("::1", "::1"), ("localhost", HERE), ("0.0.0.0", HERE), ("::", HERE), ("::", "::1")],
)
def test_udp_is_received_without_waiting(host: str, to: str) -> None:
    skip_without(host)
    with opened(host) as made, udp_socket(to) as sender:
        assert not made.getblocking()
        datagrams = Datagrams(made)
        with pytest.raises(BlockingIOError):
            datagrams.receive()
        for data in (PING, b"", bytes(65_507)):
            sender.sendto(data, (to, port_of(made)))
            assert next_of(datagrams) == (data, name_of(sender), 0)


def test_tcp_accepts_connections_without_waiting() -> None:
    with opened(tcp=True) as made:
        assert not made.getblocking()
        with pytest.raises(BlockingIOError):
            made.accept()
        with sender_to(port_of(made), tcp=True):
            made.settimeout(GENEROUS_S)
            made.accept()[0].close()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ((HERE, 9000), "127.0.0.1:9000"),
        (("::ffff:10.0.0.7", 9000, 0, 0), "10.0.0.7:9000"),
        (("fe80::7%eth0", 9000, 0, 2), "[fe80::7%eth0]:9000"),
        (("::ffff", 9000, 0, 0), "[::ffff]:9000"),
    ],
)
def test_a_sender_in_words(address: object, text: str) -> None:
    assert sender_text(address) == text


# --- what the system drops ---


@linux_only
def test_what_does_not_fit_is_told_once_by_what_does() -> None:
    with opened(buffer_bytes=4096) as made, udp_socket() as sender:
        datagrams = Datagrams(made)
        for _ in range(3):
            for _ in range(500):
                sender.sendto(PING, (HERE, port_of(made)))
            told = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    told.append(datagrams.receive()[2])
            # Now there is room.
            sender.sendto(b"next", (HERE, port_of(made)))
            datagram = PING
            while datagram == PING:
                datagram, _, n_dropped = next_of(datagrams)
                told.append(n_dropped)
            assert sum(told) > 100
            assert len(told) + sum(told) == 501


@linux_only
def test_the_system_counts_in_32_bits() -> None:
    counts = [2**32 - 3, 2**32 - 1, 4]

    class LongOpen:
        def recvmsg(self, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, str]:
            told = counts.pop(0).to_bytes(4, sys.byteorder)
            return b"", [(socket.SOL_SOCKET, ports._SO_RXQ_OVFL, told)], 0, HERE

    datagrams = Datagrams(cast("socket.socket", LongOpen()))
    assert [datagrams.receive()[2] for _ in range(3)] == [2**32 - 3, 2, 5]


# --- a port that cannot be had ---


@linux_only
@pytest.mark.parametrize("tcp", [False, True])
def test_who_has_the_port_is_named(tcp: bool) -> None:
    """By a program of its own, as it will be."""
    kind = "STREAM" if tcp else "DGRAM"
    code = (
        f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_{kind}); s.bind(('127.0.0.1', 0)); "
        f"{'s.listen(); ' if tcp else ''}print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(OscError) as caught:
            opened(port=port, tcp=tcp)
        name = f"{Path(f'/proc/{holder.pid}/comm').read_text().strip()} (process {holder.pid})"
        holder.communicate("\n")
    assert str(caught.value) == f"It cannot be opened: {name} has this port. End it."


@linux_only
def test_who_has_no_such_port_is_not_named() -> None:
    with opened(tcp=True) as made, sender_to(port_of(made), tcp=True) as connected:
        assert ports._holder(port_of(made), tcp=True) is not None
        assert ports._holder(port_of(made), tcp=False) is None
        # A connection from there does not keep the port.
        assert ports._holder(port_of(connected), tcp=True) is None


@linux_only
def test_this_program_itself_may_have_the_port() -> None:
    # The table of a process's files lists the one that it is read by, which is closed again before that is looked at.
    with Path("/dev/null").open() as lower, udp_socket() as made:
        lower.close()
        with pytest.raises(OscError, match=rf"\(process {os.getpid()}\) has this port\. End it\.$"):
            opened(port=port_of(made))


@pytest.mark.parametrize("tcp", [False, True])
def test_where_nobody_tells_who_has_the_port_a_command_does(tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_holder", lambda _port, _tcp: None)
    with opened(tcp=tcp) as made:
        port = port_of(made)
        with pytest.raises(
            OscError, match=r"^It cannot be opened: another program has this port \(.*\)\. End it\.$"
        ) as caught:
            opened(port=port, tcp=tcp)
    if sys.platform == "linux":
        assert f"(find it with sudo ss -{'t' if tcp else 'u'}lnp 'sport = :{port}')" in str(caught.value)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("host", "why"),
    [
        # RFC 5737: documentation; no computer has it.
        ("192.0.2.77", r"192\.0\.2\.77 is not an address of this computer\."),
        *((host, r".+\.") for host in ("no-such-host.invalid", "a..b", "x" * 300, "fe80::1%nowhere", "", "two words")),
    ],
)
def test_what_is_no_address_here_is_an_error_with_the_cure(host: str, why: str, tcp: bool) -> None:
    before = open_files()
    with pytest.raises(OscError, match=f"^It cannot be opened: {why} {re.escape(GIVE_ADDRESS)}$"):
        opened(host, 9001, tcp=tcp)
    assert open_files() == before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), r"^It cannot be opened: .* not allow .* above 1023\.$"),
        (OSError("no way"), "no way"),
        (OscError("no way"), "no way"),
        (ValueError("no way"), "no way"),
    ],
)
def test_an_error_while_binding_leaves_no_socket_behind(error: Exception, message: str) -> None:
    before = open_files()

    def bind(_made: socket.socket, _address: object) -> None:
        raise error

    with pytest.raises((OscError, ValueError), match=message):
        open_port(HERE, 53, failure="It cannot be opened", if_taken="End it.", bind=bind)
    assert open_files() == before
