from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from osc_corpus import PING
from osc_sockets import (
    GENEROUS_S,
    HERE,
    eventually,
    name_of,
    open_files,
    sender_to,
    skip_without,
    udp_socket,
)

from realtime_mer.osc import OscError, ports
from realtime_mer.osc.ports import GIVE_ADDRESS, Datagrams, look_up, open_port, sender_text

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own way")


def opened(host: str = HERE, port: int = 0, *, tcp: bool = False, buffer_bytes: int | None = None) -> socket.socket:
    return open_port(host, port, failure="It cannot be opened", if_taken="End it.", tcp=tcp, buffer_bytes=buffer_bytes)


def port_of(made: socket.socket) -> int:
    port: int = made.getsockname()[1]
    return port


def next_of(datagrams: Datagrams) -> tuple[bytes, str, int]:
    """Waits for it. The sender as HOST:PORT."""
    found: list[tuple[bytes, str, int]] = []

    def is_received() -> bool:
        with contextlib.suppress(BlockingIOError):
            datagram, sender, n_dropped = datagrams.receive()
            found.append((datagram, sender_text(sender), n_dropped))
        return bool(found)

    eventually(is_received)
    return found[0]


# --- names ---


def test_ipv4_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a name server gives them for "stage".
    both = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", (HERE, 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_how: both)
    assert look_up("stage", 0) == [(socket.AF_INET, (HERE, 0)), (socket.AF_INET6, ("::1", 0, 0, 0))]
    with opened("stage") as made:
        assert made.getsockname()[0] == HERE


# --- a port that is open ---


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
def test_a_sender_as_text(address: object, text: str) -> None:
    assert sender_text(address) == text


# --- what the system drops ---


@linux_only
def test_packets_that_do_not_fit_are_reported_once_by_the_next_ones() -> None:
    with opened(buffer_bytes=4096) as made, udp_socket() as sender:
        datagrams = Datagrams(made)
        for _ in range(3):
            for _ in range(500):
                sender.sendto(PING, (HERE, port_of(made)))
            dropped = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    dropped.append(datagrams.receive()[2])
            # Now there is room.
            sender.sendto(b"next", (HERE, port_of(made)))
            datagram = PING
            while datagram == PING:
                datagram, _, n_dropped = next_of(datagrams)
                dropped.append(n_dropped)
            assert sum(dropped) > 100
            assert len(dropped) + sum(dropped) == 501


@linux_only
def test_the_system_counts_in_32_bits() -> None:
    counts = [2**32 - 3, 2**32 - 1, 4]

    class LongOpen:
        def recvmsg(self, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, str]:
            count = counts.pop(0).to_bytes(4, sys.byteorder)
            return b"", [(socket.SOL_SOCKET, ports._SO_RXQ_OVFL, count)], 0, HERE

    datagrams = Datagrams(cast("socket.socket", LongOpen()))
    assert [datagrams.receive()[2] for _ in range(3)] == [2**32 - 3, 2, 5]


# --- a port that cannot be opened ---


@linux_only
@pytest.mark.parametrize("tcp", [False, True])
def test_the_program_that_has_the_port_is_named(tcp: bool) -> None:
    code = (
        f"import socket; s = socket.socket(type=socket.SOCK_{'STREAM' if tcp else 'DGRAM'}); s.bind(('127.0.0.1', 0)); "
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
def test_only_a_program_that_receives_at_the_port_is_named() -> None:
    with opened(tcp=True) as made, sender_to(port_of(made), tcp=True) as connected:
        # This program itself.
        assert str(ports._holder(port_of(made), tcp=True)).endswith(f" (process {os.getpid()})")
        assert ports._holder(port_of(made), tcp=False) is None
        # A connection from there does not keep the port.
        assert ports._holder(port_of(connected), tcp=True) is None


@pytest.mark.parametrize("tcp", [False, True])
def test_if_the_program_cannot_be_named_a_command_finds_it(tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_holder", lambda _port, _tcp: None)
    with opened(tcp=tcp) as made:
        port = port_of(made)
        with pytest.raises(
            OscError, match=r"^It cannot be opened: another program has this port \(.*\)\. End it\.$"
        ) as e:
            opened(port=port, tcp=tcp)
    if sys.platform == "linux":
        assert f"(find it with sudo ss -{'t' if tcp else 'u'}lnp 'sport = :{port}')" in str(e.value)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("host", "why"),
    [
        # RFC 5737: documentation; no computer has it.
        ("192.0.2.77", r"192\.0\.2\.77 is not an address of this computer\."),
        *((host, r".+\.") for host in ("no-such-host.invalid", "a..b", "x" * 300, "fe80::1%nowhere", "", "two words")),
    ],
)
def test_a_host_that_is_not_this_computer_is_an_error_with_the_cure(host: str, why: str, tcp: bool) -> None:
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
