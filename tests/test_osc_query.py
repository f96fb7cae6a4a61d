from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import http.client
import importlib
import ipaddress
import json
import math
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osc_sockets import GENEROUS_S, HERE, eventually, open_files, skip_without
from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf

from realtime_mer.config.space import COMMANDS, SPACE
from realtime_mer.osc import OscError, query
from realtime_mer.osc.messages import Message, read_packet
from realtime_mer.osc.query import Node, QueryServer
from realtime_mer.osc.sink import OscSink
from realtime_mer.types import Prediction
from realtime_mer.updates import Update

ROOT = Path(__file__).resolve().parents[1]
# Only a number here: nothing listens there. Other tests of the same time have others.
CONTROL = (HERE, 20_000 + os.getpid() % 20_000)
MDNS_PORT = 5353


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    before = open_files()
    yield
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "oscquery"])
    # zeroconf leaves sockets that it could not bind to the garbage collector.
    eventually(lambda: open_files() <= before or gc.collect() < 0)


@pytest.fixture
def server() -> Iterator[QueryServer]:
    with contextlib.closing(QueryServer(HERE, 0, control=CONTROL)) as made:
        yield made


def respond(
    server: QueryServer, target: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[http.client.HTTPResponse, str]:
    """The response and its text."""
    with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=GENEROUS_S)) as connection:
        connection.request(method, target, headers=headers or {})
        response = connection.getresponse()
        return response, "" if response.status == 101 else response.read().decode()


def ask(server: QueryServer, target: str) -> tuple[int, Any]:
    """The status, and the JSON or else the text."""
    response, text = respond(server, target)
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(text) if is_json else text


def leaves(node: Node) -> dict[str, Node]:
    """By their FULL_PATH, after a check of the containers above each."""
    if "CONTENTS" not in node:
        return {node["FULL_PATH"]: node}
    assert node["ACCESS"] == 0
    assert "TYPE" not in node
    found: dict[str, Node] = {}
    for name, below in node["CONTENTS"].items():
        assert below["FULL_PATH"] == f"{node['FULL_PATH'].rstrip('/')}/{name}"
        found |= leaves(below)
    return found


def converse(server: QueryServer, talk: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]]) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(GENEROUS_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://{HERE}:{server.port}/", autoping=False) as websocket,
        ):
            await talk(websocket)

    asyncio.run(run())


async def notify(websocket: aiohttp.ClientWebSocketResponse, command: str, address: str) -> None:
    await websocket.send_json({"COMMAND": command, "DATA": address})


async def heed(websocket: aiohttp.ClientWebSocketResponse) -> None:
    """Waits until the server has processed all frames so far: it answers them in order."""
    await websocket.ping(b"so far")
    while True:
        frame = await websocket.receive()
        assert frame.type is aiohttp.WSMsgType.PONG
        if frame.data == b"so far":
            return


async def next_message(websocket: aiohttp.ClientWebSocketResponse) -> Message:
    frame = await websocket.receive()
    assert frame.type is aiohttp.WSMsgType.BINARY
    # Not a bundle: Chataigne, for one, takes the frame for one message.
    assert frame.data.startswith(b"/")
    (message,) = read_packet(frame.data)
    return message


# --- the tree ---


def test_the_tree_is_the_table(server: QueryServer) -> None:
    status, tree = ask(server, "/")
    assert status == 200
    assert tree["FULL_PATH"] == "/"
    found = leaves(tree)
    for address in SPACE:
        node = found.pop(f"/mer/{address.name}")
        assert (node["TYPE"], node["ACCESS"], node["DESCRIPTION"]) == (address.types, 1, address.meaning)
        bounds = {key: bound for key, bound in (("MIN", address.low), ("MAX", address.high)) if bound is not None}
        n_ranges = len(address.types) if bounds else 0
        assert node.get("RANGE", []) == [bounds] * n_ranges
        assert node.get("CLIPMODE", []) == ["low" if address.high is None else "both"] * n_ranges
        unit = {"°": "angle.degree", "dBFS": "gain.db", "ms": "time.ms", "s": "time.second"}.get(address.unit)
        assert node.get("UNIT", []) == ([unit] if unit else []) * len(address.types)
    for command in COMMANDS:
        node = found.pop(f"/mer/control/{command.name}")
        # An impulse is a button; it has no value.
        assert (node["TYPE"], node["ACCESS"], node["DESCRIPTION"]) == (command.types or "I", 2, command.meaning)
        longer = [overload["TYPE"] for overload in node.get("OVERLOADS", ())]
        assert longer == [command.types + command.optional[:n] for n in range(1, len(command.optional) + 1)]
    assert found == {}


def test_host_info_has_the_extensions_and_the_control_port(server: QueryServer) -> None:
    # At any address.
    for target in ("/?HOST_INFO", "/mer/valence?HOST_INFO", "/nowhere?HOST_INFO&VALUE"):
        status, info = ask(server, target)
        assert status == 200
        extensions = "ACCESS", "VALUE", "RANGE", "DESCRIPTION", "UNIT", "CLIPMODE", "OVERLOADS", "LISTEN"
        assert info.pop("EXTENSIONS") == dict.fromkeys(extensions, True)
        assert info.pop("NAME").startswith("realtime-mer on ")
        assert info == {"OSC_IP": HERE, "OSC_PORT": CONTROL[1], "OSC_TRANSPORT": "UDP"}
    with contextlib.closing(QueryServer(HERE, 0, control=None)) as without:
        assert ask(without, "/mer/control")[0] == 404
        assert ask(without, "/?HOST_INFO")[1].keys() == {"NAME", "EXTENSIONS"}
    # A port on all addresses is reached at the one that the client uses.
    with contextlib.closing(QueryServer(HERE, 0, control=("0.0.0.0", 9001))) as everywhere:
        assert ask(everywhere, "/?HOST_INFO")[1]["OSC_IP"] == HERE


# --- values and attributes ---


def test_values_follow_what_is_sent(server: QueryServer) -> None:
    assert ask(server, "/mer/va?VALUE") == (200, {})
    for valence in (0.25, -0.5):
        server.take([Message("/mer/va", "ff", (valence, 1.0)), Message("/mer/status/source", "s", ("Bühne",))])
        assert ask(server, "/mer/va?VALUE") == (200, {"VALUE": [valence, 1.0]})
        assert ask(server, "/mer/status/source?VALUE") == (200, {"VALUE": ["Bühne"]})
        assert leaves(ask(server, "/")[1])["/mer/va"]["VALUE"] == [valence, 1.0]
    # JSON has no NaN.
    server.take([Message("/mer/va", "ff", (math.nan, -math.inf))])
    assert ask(server, "/mer/va?VALUE") == (200, {"VALUE": [None, None]})


@pytest.mark.parametrize(
    ("target", "status", "answer"),
    [
        ("/mer/valence/?TYPE=&ACCESS", 200, {"TYPE": "f", "ACCESS": 1}),
        ("/mer/valence?FULL_PATH#part", 200, {"FULL_PATH": "/mer/valence"}),
        # A node without this attribute.
        ("/mer?TYPE", 200, {}),
        ("/mer/valence?UNIT", 200, {}),
        # An attribute that does not apply, or is not served.
        ("/mer?VALUE", 204, ""),
        ("/mer/control/ping?VALUE", 204, ""),
        ("/mer/valence?TAGS", 204, ""),
        # Not in the protocol.
        ("/mer/valence?COLOUR", 400, "There is no such attribute: COLOUR\n"),
        ("/mer/valence/deeper", 404, "There is no such address.\n"),
        ("/%2e%2e/%2e%2e/etc/passwd", 404, "There is no such address.\n"),
    ],
)
def test_attributes_are_answered(server: QueryServer, target: str, status: int, answer: object) -> None:
    assert ask(server, target) == (status, answer)
    response, text = respond(server, target, method="HEAD")
    assert (response.status, text) == (status, "")
    assert [respond(server, target, method=method)[0].status for method in ("PUT", "OPTIONS")] == [405, 405]


# --- streaming ---


def test_a_client_is_sent_what_it_listens_to(server: QueryServer) -> None:
    both = [Message("/mer/frame", "i", (7,)), Message("/mer/valence", "f", (0.5,))]

    async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
        # A container's address does not include its contents.
        for address in ("/mer/frame", "/mer", "/mer/status/source"):
            await notify(websocket, "LISTEN", address)
        await heed(websocket)
        assert str(server.status()).endswith(", 1 listening")
        server.take(both)
        server.take([Message("/mer/status/source", "s", ("running",))])
        assert await next_message(websocket) == both[0]
        assert await next_message(websocket) == Message("/mer/status/source", "s", ("running",))
        await notify(websocket, "IGNORE", "/mer/frame")
        await notify(websocket, "LISTEN", "/mer/valence")
        await heed(websocket)
        server.take(both)
        assert await next_message(websocket) == both[1]

    converse(server, talk)
    eventually(lambda: str(server.status()).endswith(", 0 listening"))


def test_a_sinks_predictions_arrive(server: QueryServer) -> None:
    with contextlib.closing(OscSink([])) as sink:
        sink.add_listener(server.settings, server.take)
        sink.update(Update(41, Prediction(20.5, 0.5, -0.25), False, None))
        eventually(lambda: ask(server, "/mer/va?VALUE")[1] == {"VALUE": [0.5, -0.25]})
        assert ask(server, "/mer/frame?VALUE")[1] == {"VALUE": [41]}


BAD_FRAMES: list[str | bytes] = [
    "",
    "null",
    '{"COMMAND": "LISTEN"}',
    '{"COMMAND": "LISTEN", "DATA": ["/mer/valence"]}',
    '{"COMMAND": "IGNORE", "DATA": "../.."}',
    '{"COMMAND": "listen", "DATA": "/mer/valence"}',
    "[" * 4000,
    '{"COMMAND": "LISTEN", "DATA": "\\ud800"}',
    b"/mer/control/pause\0\0,\0\0\0",
]


def test_other_frames_are_counted_and_ignored(server: QueryServer) -> None:
    async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
        for bad in BAD_FRAMES:
            await (websocket.send_str(bad) if isinstance(bad, str) else websocket.send_bytes(bad))
        await notify(websocket, "LISTEN", "/mer/frame")
        await heed(websocket)
        server.take([Message("/mer/frame", "i", (1,))])
        assert (await next_message(websocket)).values == (1,)

    converse(server, talk)
    assert str(server.status()).endswith(f", {len(BAD_FRAMES)} requests ignored")


def test_a_client_that_sends_too_much_is_held_up_or_disconnected(server: QueryServer) -> None:
    async def send_many_frames(websocket: aiohttp.ClientWebSocketResponse) -> None:
        began_s = time.monotonic()
        for address in SPACE[:50]:
            await notify(websocket, "LISTEN", f"/mer/{address.name}")
            await websocket.ping()
        await heed(websocket)
        # At most 500 a second.
        assert time.monotonic() - began_s >= 0.2

    async def send_a_long_frame(websocket: aiohttp.ClientWebSocketResponse) -> None:
        await websocket.send_str("x" * 5000)
        frame = await websocket.receive()
        assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)

    converse(server, send_many_frames)
    converse(server, send_a_long_frame)


def unread(server: QueryServer, address: str) -> socket.socket:
    """A client that listens to one address, and then reads no more. Written by hand after RFC 6455."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(GENEROUS_S)
    made.connect((HERE, server.port))
    made.sendall(
        f"GET / HTTP/1.1\r\nHost: {HERE}:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    reply = b""
    while not reply.endswith(b"\r\n\r\n"):
        reply += made.recv(1)
    assert reply.startswith(b"HTTP/1.1 101 ")
    # The mask of zeros leaves the text as it is.
    text = json.dumps({"COMMAND": "LISTEN", "DATA": address}).encode()
    assert len(text) < 126
    made.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
    return made


def test_a_client_that_stops_reading_does_not_delay_others(server: QueryServer) -> None:
    n_sent = 1000
    with contextlib.closing(unread(server, "/mer/status/ack")) as stopped:
        eventually(lambda: "1 listening" in str(server.status()))

        async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
            await notify(websocket, "LISTEN", "/mer/status/ack")
            await heed(websocket)
            for n in range(n_sent):
                server.take([Message("/mer/status/ack", "ss", (str(n), "x" * 1000))])
                # All of them, in their order, although the other client takes none.
                assert (await next_message(websocket)).values[0] == str(n)

        converse(server, talk)
        n_lost = int(str(server.status()).split(" messages lost")[0].split()[-1])
        # The rest still arrives: the oldest, which the system had buffered, and the newest.
        received = [int(str(message.values[0])) for message in frames_left(stopped, str(n_sent - 1))]
        assert len(received) == n_sent - n_lost
        assert received == sorted(received)
        assert received[0] == 0
        assert received[-512:] == list(range(n_sent - 512, n_sent))


def frames_left(made: socket.socket, last: str) -> Iterator[Message]:
    """The binary frames, of 64 kB at most, from a server; until the message whose first value is `last`."""
    with made.makefile("rb") as stream:
        while True:
            kind, size = stream.read(2)
            if size == 126:
                (size,) = struct.unpack(">H", stream.read(2))
            data = stream.read(size)
            if kind == 0x82:
                (message,) = read_packet(data)
                yield message
                if message.values[0] == last:
                    return


def test_too_many_clients_are_refused(server: QueryServer) -> None:
    async def run() -> None:
        url = f"http://{HERE}:{server.port}/"
        async with asyncio.timeout(GENEROUS_S), aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(url) for _ in range(16)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url)
            assert refused.value.status == 503
            assert n_tasks_of_clients() >= 32
            await sockets.pop().close()
            await session.ws_connect(url)

    def n_tasks_of_clients() -> int:
        # Others announce the server, sooner or later.
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks(server._loop)]  # type: ignore[union-attr]
        return sum(name.startswith(("_Client.", "RequestHandler.")) for name in names)

    asyncio.run(run())
    # Nothing is left of a client that is gone.
    eventually(lambda: n_tasks_of_clients() == 0)


def test_too_many_connections_are_closed(server: QueryServer) -> None:
    def is_refused() -> bool:
        try:
            ask(server, "/")
        except (http.client.RemoteDisconnected, ConnectionError):
            return True
        return False

    with contextlib.ExitStack() as held:
        for _ in range(64):
            held.enter_context(socket.create_connection((HERE, server.port)))
        eventually(is_refused)
    eventually(lambda: not is_refused())


# --- opening and closing ---


def test_closing_closes_every_client_and_waits_for_none() -> None:
    server = QueryServer(HERE, 0, control=None)
    with contextlib.ExitStack() as held:
        stopped = [held.enter_context(contextlib.closing(unread(server, "/mer/status/ack"))) for _ in range(3)]
        # One that has sent half a request.
        half = held.enter_context(contextlib.closing(socket.create_connection((HERE, server.port))))
        half.sendall(b"GET / HTT")
        eventually(lambda: "3 listening" in str(server.status()))
        for _ in range(500):
            server.take([Message("/mer/status/ack", "ss", ("", "x" * 500))])

        async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
            closing = asyncio.create_task(asyncio.to_thread(server.close))
            frame = await websocket.receive()
            assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
            await closing

        converse(server, talk)
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "oscquery"])
        for client in stopped:
            # The connection ends for them too, once they read again.
            with contextlib.suppress(ConnectionError):
                while client.recv(65_536):
                    pass
    server.close()
    server.take([Message("/mer/frame", "i", (1,))])
    assert str(server.status()).startswith(f"OSCQuery on http://{HERE}:{server.port}, 0 listening")
    # The port is free again.
    QueryServer(HERE, server.port, control=None).close()


def test_a_port_that_is_taken_is_an_error_with_the_cure(server: QueryServer) -> None:
    with pytest.raises(OscError, match=rf"listen at 127\.0\.0\.1:{server.port}: .+ has this port.*\. Give another"):
        QueryServer(HERE, server.port, control=None)


@pytest.mark.parametrize("missing", ["aiohttp", "zeroconf", "ifaddr"])
def test_without_the_packages_an_error_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    # The module itself can be imported without them.
    importlib.reload(query)
    with pytest.raises(OscError, match=rf"\({missing}\)\. .*pip install '\.\[query\]'"):
        query.QueryServer(HERE, 0, control=None)


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_other_hosts_work(host: str) -> None:
    skip_without(host)
    with contextlib.closing(QueryServer(host, 0, control=(host, 9001))) as server:
        shown = f"[{host}]" if ":" in host else host
        assert str(server.status()).startswith(f"OSCQuery on http://{shown}:{server.port}, 0 listening")
        assert ask(server, "/?HOST_INFO")[1]["OSC_IP"] == host


# --- access from web pages ---


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("[::1]:{port}", None, 200),
        ("LOCALHOST.:{port}", None, 200),
        ("stage-pc:9002", None, 200),
        ("stage-pc.lan", None, 200),
        # DNS rebinding: a site whose name has become this computer's address.
        ("evil.example:{port}", None, 403),
        ("127.0.0.1.evil.example", None, 403),
        ("", None, 403),
        ("[::1", None, 403),
        ("127.0.0.1:{port}", "http://localhost:3000", 200),
        ("127.0.0.1:{port}", "http://192.168.1.20", 200),
        ("127.0.0.1:{port}", "http://stage-pc.local", 200),
        ("8.8.8.8:{port}", "http://8.8.8.8:{port}", 200),
        ("127.0.0.1:{port}", "https://evil.example", 403),
        ("127.0.0.1:{port}", "http://8.8.8.8", 403),
        ("127.0.0.1:{port}", "null", 403),
    ],
)
def test_web_sites_are_refused(server: QueryServer, host: str, origin: str | None, status: int) -> None:
    headers = {"Host": host.format(port=server.port)}
    if origin is not None:
        headers["Origin"] = origin.format(port=server.port)
    response, _ = respond(server, "/mer/valence?TYPE", headers)
    assert response.status == status
    # A page that may ask may also read the answer.
    allowed = headers.get("Origin") if status == 200 else None
    assert response.headers["Access-Control-Allow-Origin"] == allowed
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert respond(server, "/", headers | upgrade | key)[0].status == (101 if status == 200 else status)


GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HOSTILE = [
    b"\0" * 1000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    GET + b"X-Y: z\r\n" * 10_000 + b"\r\n",
    GET + b"Host: evil.example\r\n\r\n",
    GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 99\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
    POST + b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n" + b"\x1f\x8b" * 50,
    POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"tls" * 100,
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:20]))
def test_hostile_requests_do_no_harm(server: QueryServer, data: bytes) -> None:
    send_all(server.port, data)
    assert ask(server, "/mer/valence?TYPE") == (200, {"TYPE": "f"})


def send_all(port: int, data: bytes) -> None:
    # The server may close the connection meanwhile.
    with socket.create_connection((HERE, port), timeout=GENEROUS_S) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


@pytest.mark.slow
def test_hostile_requests_print_nothing() -> None:
    # In a process of its own, since pytest captures logs.
    code = (
        "import sys; from realtime_mer.osc.query import QueryServer; "
        "server = QueryServer('127.0.0.1', 0, control=None); "
        "print(server.port, flush=True); sys.stdin.read(); server.close()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for data in HOSTILE:
            send_all(port, data)
        assert process.communicate(timeout=GENEROUS_S)[0] == ""
    assert process.returncode == 0


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#")))
def test_no_request_path_leaves_the_tree(server: QueryServer, rest: str) -> None:
    status, answer = ask(server, f"/{rest}")
    assert status in (200, 204, 400, 404)
    if status == 200 and "?" not in rest:
        assert answer["FULL_PATH"] in server._nodes


# --- mDNS ---


class Found:
    """The services that are announced on loopback, by name."""

    def __init__(self) -> None:
        self.services: dict[str, tuple[list[str], int | None]] = {}

    def change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self.services.pop(name, None)
        elif (info := zeroconf.get_service_info(service_type, name)) is not None:
            self.services[name] = (info.parsed_addresses(), info.port)

    def of(self, server: QueryServer) -> list[str]:
        return [name for name, (_, port) in list(self.services.items()) if port == server.port]


@pytest.fixture
def found() -> Iterator[Found]:
    listener = Found()
    with contextlib.ExitStack() as opened:
        try:
            browser = opened.enter_context(contextlib.closing(Zeroconf(interfaces=[HERE])))
            # Whether loopback takes multicast.
            probe = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
            probe.sendto(b"", ("224.0.0.251", MDNS_PORT))
        except OSError as error:
            pytest.skip(f"no mDNS here: {error}")
        ServiceBrowser(browser, ["_oscjson._tcp.local.", "_osc._udp.local."], handlers=[listener.change])
        yield listener


def test_the_server_and_the_control_port_are_found(found: Found) -> None:
    with contextlib.closing(QueryServer(HERE, 0, control=CONTROL)) as server:
        # If several run on this computer, the later ones' names have a number.
        name = f"realtime-mer on {socket.gethostname().partition('.')[0]}"
        eventually(lambda: found.of(server))
        (full_name,) = found.of(server)
        assert full_name.startswith(name)
        assert full_name.endswith("._oscjson._tcp.local.")
        assert found.services[full_name] == ([HERE], server.port)
        eventually(lambda: ([HERE], CONTROL[1]) in found.services.values())
        assert "not announced" not in str(server.status())
        server.close()
        # It sends a goodbye.
        eventually(lambda: not found.of(server))


def test_a_control_port_that_others_cannot_reach_is_not_announced_to_them() -> None:
    with contextlib.closing(QueryServer(HERE, 0, control=CONTROL)) as server:

        def announced(bound: str, control: tuple[str, int] = CONTROL) -> list[tuple[str, list[str]]]:
            server._bound, server._control = ipaddress.ip_address(bound), control
            return [(service.type, service.parsed_addresses()) for service in server._services()]

        assert announced(HERE)[1] == ("_osc._udp.local.", [HERE])
        assert [kind for kind, _ in announced("192.0.2.2")] == ["_oscjson._tcp.local."]
        assert announced("192.0.2.3", ("192.0.2.2", 9001))[1] == ("_osc._udp.local.", ["192.0.2.2"])
        assert announced("192.0.2.2", ("0.0.0.0", 9001))[1] == ("_osc._udp.local.", ["192.0.2.2"])
        everywhere = announced("0.0.0.0")[0][1]
        assert everywhere
        assert "0.0.0.0" not in everywhere


def test_without_mdns_the_server_goes_on() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        try:
            # Without SO_REUSEADDR, as a responder that does not share the port.
            holder.bind(("", MDNS_PORT))
        except OSError as error:
            pytest.skip(f"another program has mDNS's port: {error}")
        with contextlib.closing(QueryServer(HERE, 0, control=None)) as server:
            eventually(lambda: "not announced" in str(server.status()))
            assert str(server.status()).endswith(f"(not announced: {os.strerror(errno.EADDRINUSE)})")
            assert ask(server, "/mer/valence?TYPE") == (200, {"TYPE": "f"})
