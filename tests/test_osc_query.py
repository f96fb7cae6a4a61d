from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import http.client
import ipaddress
import json
import math
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osc_sockets import GENEROUS_S, HERE, eventually, open_files
from zeroconf import ServiceBrowser, ServiceListener, Zeroconf

from realtime_mer.config.space import COMMANDS, SPACE
from realtime_mer.osc import OscError
from realtime_mer.osc.messages import Message, read_packet
from realtime_mer.osc.query import Node, QueryServer
from realtime_mer.osc.sink import OscSink
from realtime_mer.types import Prediction
from realtime_mer.updates import Update

ROOT = Path(__file__).resolve().parents[1]
# Only a number here: nothing listens there. Other tests of the same time have others.
CONTROL = (HERE, 20_000 + os.getpid() % 20_000)
MDNS_GROUP, MDNS_PORT = "224.0.0.251", 5353


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    before = open_files()
    yield
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "oscquery"])
    eventually(lambda: open_files() <= before or collected())


def collected() -> bool:
    """False, after what nobody refers to was closed: zeroconf leaves the sockets that it could not bind."""
    gc.collect()
    return False


@pytest.fixture
def server() -> Iterator[QueryServer]:
    with contextlib.closing(QueryServer(HERE, 0, control=CONTROL)) as made:
        yield made


def ask(server: QueryServer, target: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """The status, and what the JSON says or else the text."""
    with contextlib.closing(http.client.HTTPConnection(HERE, server.port, timeout=GENEROUS_S)) as connection:
        connection.request("GET", target, headers=headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text


def leaves(node: Node) -> dict[str, Node]:
    """By their FULL_PATH, after a look at the way that leads to each."""
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
    """Waits until the server has heard all that was said so far: frames are answered in their order."""
    await websocket.ping(b"so far")
    while True:
        frame = await websocket.receive()
        assert frame.type is aiohttp.WSMsgType.PONG
        if frame.data == b"so far":
            return


async def hear(websocket: aiohttp.ClientWebSocketResponse) -> Message:
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


def test_without_a_control_port_no_command_is_offered() -> None:
    with contextlib.closing(QueryServer(HERE, 0, control=None)) as server:
        assert ask(server, "/mer/control")[0] == 404
        info = ask(server, "/?HOST_INFO")[1]
    assert info.keys() == {"NAME", "EXTENSIONS"}
    assert "OVERLOADS" not in info["EXTENSIONS"]


def test_host_info_says_what_is_served_and_where_commands_go(server: QueryServer) -> None:
    # Of whatever address it is asked.
    for target in ("/?HOST_INFO", "/mer/valence?HOST_INFO", "/nowhere?HOST_INFO&VALUE"):
        status, info = ask(server, target)
        assert status == 200
        assert info.pop("EXTENSIONS") == dict.fromkeys(
            ("ACCESS", "VALUE", "RANGE", "DESCRIPTION", "UNIT", "CLIPMODE", "OVERLOADS", "LISTEN"), True
        )
        assert info.pop("NAME").startswith("realtime-mer on ")
        assert info == {"OSC_IP": HERE, "OSC_PORT": CONTROL[1], "OSC_TRANSPORT": "UDP"}


def test_commands_that_are_taken_everywhere_go_where_the_client_found_us() -> None:
    with contextlib.closing(QueryServer(HERE, 0, control=("0.0.0.0", 9001))) as server:
        assert ask(server, "/?HOST_INFO")[1]["OSC_IP"] == HERE


# --- values and attributes ---


def test_values_follow_what_is_sent(server: QueryServer) -> None:
    assert "VALUE" not in ask(server, "/mer/va")[1]
    assert ask(server, "/mer/va?VALUE") == (200, {})
    for valence in (0.25, -0.5):
        server.take([Message("/mer/va", "ff", (valence, 1.0)), Message("/mer/status/source", "s", ("Bühne",))])
        assert ask(server, "/mer/va?VALUE") == (200, {"VALUE": [valence, 1.0]})
        assert ask(server, "/mer/status/source?VALUE") == (200, {"VALUE": ["Bühne"]})
        assert leaves(ask(server, "/")[1])["/mer/va"]["VALUE"] == [valence, 1.0]


def test_what_is_no_number_is_null(server: QueryServer) -> None:
    server.take([Message("/mer/va", "ff", (math.nan, -math.inf))])
    assert ask(server, "/mer/va?VALUE") == (200, {"VALUE": [None, None]})


@pytest.mark.parametrize(
    ("target", "status", "told"),
    [
        ("/mer/valence?TYPE", 200, {"TYPE": "f"}),
        ("/mer/valence/?TYPE", 200, {"TYPE": "f"}),
        ("/mer/valence?TYPE=&ACCESS", 200, {"TYPE": "f", "ACCESS": 1}),
        ("/mer/polar/angle?UNIT", 200, {"UNIT": ["angle.degree"]}),
        ("/mer/quadrant?RANGE", 200, {"RANGE": [{"MIN": 0, "MAX": 4}]}),
        ("/mer/valence?FULL_PATH#part", 200, {"FULL_PATH": "/mer/valence"}),
        # A node without this attribute.
        ("/mer?TYPE", 200, {}),
        ("/mer/valence?CONTENTS", 200, {}),
        ("/mer/valence?UNIT", 200, {}),
        # An attribute that does not apply, or is not served.
        ("/mer?VALUE", 204, ""),
        ("/mer/control/ping?VALUE", 204, ""),
        ("/mer/valence?TAGS", 204, ""),
        # Not in the protocol.
        ("/mer/valence?COLOUR", 400, "There is no such attribute: COLOUR\n"),
        ("/nowhere", 404, "There is no such address.\n"),
        ("/mer/valence/deeper", 404, "There is no such address.\n"),
        ("/%2e%2e/%2e%2e/etc/passwd", 404, "There is no such address.\n"),
        ("/mer/%00", 404, "There is no such address.\n"),
    ],
)
def test_what_is_asked_for_is_told(server: QueryServer, target: str, status: int, told: object) -> None:
    assert ask(server, target) == (status, told)


def test_only_get_is_answered(server: QueryServer) -> None:
    with contextlib.closing(http.client.HTTPConnection(HERE, server.port, timeout=GENEROUS_S)) as connection:
        for method, status in (("PUT", 405), ("OPTIONS", 405), ("HEAD", 200)):
            connection.request(method, "/mer", body=b"x" * 100)
            response = connection.getresponse()
            assert response.status == status
            assert (response.read() == b"") == (method == "HEAD")


# --- streaming ---


def test_a_client_hears_what_it_listens_to(server: QueryServer) -> None:
    both = [Message("/mer/frame", "i", (7,)), Message("/mer/valence", "f", (0.5,))]

    async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
        # A container's address means none of what is in it.
        for address in ("/mer/frame", "/mer", "/mer/status/source"):
            await notify(websocket, "LISTEN", address)
        await heed(websocket)
        assert str(server.status()).endswith(", 1 listening")
        server.take(both)
        server.take([Message("/mer/status/source", "s", ("running",))])
        assert await hear(websocket) == both[0]
        assert await hear(websocket) == Message("/mer/status/source", "s", ("running",))
        await notify(websocket, "IGNORE", "/mer/frame")
        await notify(websocket, "LISTEN", "/mer/valence")
        await heed(websocket)
        server.take(both)
        assert await hear(websocket) == both[1]

    converse(server, talk)
    eventually(lambda: str(server.status()).endswith(", 0 listening"))


def test_a_sinks_predictions_arrive(server: QueryServer) -> None:
    sink = OscSink([])
    sink.add_listener(server.settings, server.take)

    async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
        for name in ("va", "frame", "smooth/valence"):
            await notify(websocket, "LISTEN", f"/mer/{name}")
        await websocket.ping()
        while (await websocket.receive()).type is not aiohttp.WSMsgType.PONG:
            pass
        sink.update(Update(41, Prediction(20.5, 0.5, -0.25), False, None))
        heard: dict[str, tuple[object, ...]] = {}
        while heard.keys() != {"/mer/va", "/mer/frame", "/mer/smooth/valence"}:
            message = await hear(websocket)
            heard[message.address] = message.values
        assert (heard["/mer/va"], heard["/mer/frame"]) == ((0.5, -0.25), (41,))

    with contextlib.closing(sink):
        converse(server, talk)
        assert ask(server, "/mer/quadrant?VALUE") == (200, {"VALUE": [0]})


BAD_FRAMES: list[str | bytes] = [
    "",
    "null",
    "{}",
    '{"COMMAND": "LISTEN"}',
    '{"COMMAND": "LISTEN", "DATA": null}',
    '{"COMMAND": "LISTEN", "DATA": ["/mer/valence"]}',
    '{"COMMAND": "LISTEN", "DATA": "/nowhere"}',
    '{"COMMAND": "IGNORE", "DATA": "../.."}',
    '{"COMMAND": "listen", "DATA": "/mer/valence"}',
    '{"COMMAND": "PATH_CHANGED", "DATA": "/mer"}',
    "[" * 4000,
    "9" * 4000,
    '{"COMMAND": "LISTEN", "DATA": "\\ud800"}',
    b"/mer/control/pause\0\0,\0\0\0",
    b"\xff" * 100,
]


def test_what_is_no_command_is_counted_and_ignored(server: QueryServer) -> None:
    async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
        for bad in BAD_FRAMES:
            await (websocket.send_str(bad) if isinstance(bad, str) else websocket.send_bytes(bad))
        await notify(websocket, "LISTEN", "/mer/frame")
        await heed(websocket)
        server.take([Message("/mer/frame", "i", (1,))])
        assert (await hear(websocket)).values == (1,)

    converse(server, talk)
    assert str(server.status()).endswith(f", {len(BAD_FRAMES)} requests ignored")


@pytest.mark.parametrize("letter", ["x", "["])
def test_who_says_too_much_in_a_frame_is_let_go(server: QueryServer, letter: str) -> None:
    async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
        await websocket.send_str(letter * 5000)
        frame = await websocket.receive()
        assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)

    converse(server, talk)
    assert ask(server, "/mer/valence?TYPE")[0] == 200


def test_who_says_too_much_in_a_second_is_let_go(server: QueryServer) -> None:
    async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
        # As many as any client has reason to say are fine.
        for address in 8 * SPACE:
            await notify(websocket, "LISTEN", f"/mer/{address.name}")
        await heed(websocket)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await websocket.ping()
        while (frame := await websocket.receive()).type is aiohttp.WSMsgType.PONG:
            pass
        assert (frame.type, frame.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.POLICY_VIOLATION)

    converse(server, talk)


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


def test_a_client_that_stops_reading_delays_nobody(server: QueryServer) -> None:
    n_sent = 2000
    with contextlib.closing(unread(server, "/mer/status/ack")) as stopped:
        eventually(lambda: "1 listening" in str(server.status()))

        async def talk(websocket: aiohttp.ClientWebSocketResponse) -> None:
            await notify(websocket, "LISTEN", "/mer/status/ack")
            await heed(websocket)
            for n in range(n_sent):
                server.take([Message("/mer/status/ack", "ss", (str(n), "x" * 500))])
                # All of them, in their order, although the other client takes none.
                assert (await hear(websocket)).values[0] == str(n)

        converse(server, talk)
        n_lost = int(str(server.status()).split(" messages lost")[0].split()[-1])
        # What was not lost waits for it: the oldest, which the system had taken on by then, and the newest.
        heard = [int(str(message.values[0])) for message in frames_left(stopped, str(n_sent - 1))]
        assert len(heard) == n_sent - n_lost
        assert heard == sorted(heard)
        assert heard[0] == 0
        assert heard[-512:] == list(range(n_sent - 512, n_sent))


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


def test_clients_too_many_are_refused(server: QueryServer) -> None:
    async def run() -> None:
        url = f"http://{HERE}:{server.port}/"
        async with asyncio.timeout(GENEROUS_S), aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(url) for _ in range(16)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url)
            assert refused.value.status == 503
            await sockets.pop().close()
            sockets.append(await session.ws_connect(url))
            for websocket in sockets:
                await websocket.close()

    n_tasks = n_tasks_of(server)
    asyncio.run(run())
    # Of a client that is gone nothing stays.
    eventually(lambda: n_tasks_of(server) <= n_tasks)


def n_tasks_of(server: QueryServer) -> int:
    return len(asyncio.all_tasks(server._loop))


def test_connections_too_many_are_closed(server: QueryServer) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(64):
            connection = held.enter_context(contextlib.closing(http.client.HTTPConnection(HERE, server.port)))
            connection.connect()
        # A request, so that the last of them has been accepted.
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(server, "/")
    eventually(lambda: succeeds(lambda: ask(server, "/")))


def succeeds(act: Callable[[], object]) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        act()
        return True
    return False


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


def test_closing_at_once_leaves_nothing_open() -> None:
    before = open_files()
    gc.disable()
    try:
        for _ in range(30):
            QueryServer(HERE, 0, control=CONTROL).close()
        eventually(lambda: open_files() <= before)
    finally:
        gc.enable()


def test_a_port_that_is_taken_is_an_error_with_the_cure(server: QueryServer) -> None:
    with pytest.raises(OscError, match=rf"listen at 127\.0\.0\.1:{server.port}: .+ has this port.*\. Give another"):
        QueryServer(HERE, server.port, control=None)


@pytest.mark.parametrize("missing", ["aiohttp", "zeroconf", "ifaddr"])
def test_without_the_packages_an_error_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(OscError, match=rf"\({missing}\)\. .*pip install '\.\[query\]'"):
        QueryServer(HERE, 0, control=None)


def test_the_module_comes_without_the_packages() -> None:
    code = (
        "import sys, realtime_mer.osc.query; "
        "print(*sorted({'aiohttp', 'zeroconf', 'ifaddr', 'torch', 'scipy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


def test_ipv6_works() -> None:
    try:
        server = QueryServer("::1", 0, control=("::1", 9001))
    except OscError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with contextlib.closing(server):
        assert str(server.status()).startswith(f"OSCQuery on http://[::1]:{server.port}, 0 listening")
        with contextlib.closing(http.client.HTTPConnection("::1", server.port, timeout=GENEROUS_S)) as connection:
            connection.request("GET", "/?HOST_INFO")
            assert json.loads(connection.getresponse().read())["OSC_IP"] == "::1"


# --- who may ask ---


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:{port}", None, 200),
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
        ("127.0.0.1:{port}", "http://[::1", 403),
    ],
)
def test_web_sites_may_not_ask(server: QueryServer, host: str, origin: str | None, status: int) -> None:
    headers = {"Host": host.format(port=server.port)}
    if origin is not None:
        headers["Origin"] = origin.format(port=server.port)
    assert ask(server, "/mer/valence?TYPE", headers)[0] == status
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert handshake_status(server, headers | upgrade | key) == (101 if status == 200 else status)


def handshake_status(server: QueryServer, headers: dict[str, str]) -> int:
    with contextlib.closing(http.client.HTTPConnection(HERE, server.port, timeout=GENEROUS_S)) as connection:
        connection.request("GET", "/", headers=headers)
        return connection.getresponse().status


def test_pages_of_this_network_may_read_what_they_are_told(server: QueryServer) -> None:
    with contextlib.closing(http.client.HTTPConnection(HERE, server.port, timeout=GENEROUS_S)) as connection:
        for target in ("/mer/valence", "/nowhere"):
            connection.request("GET", target, headers={"Origin": "http://localhost:3000"})
            response = connection.getresponse()
            response.read()
            assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        connection.request("GET", "/mer/valence")
        assert connection.getresponse().headers["Access-Control-Allow-Origin"] is None


def test_the_name_that_was_given_may_be_asked_for() -> None:
    with contextlib.closing(QueryServer("localhost", 0, control=None)) as server:
        assert str(server.status()).startswith(f"OSCQuery on http://localhost:{server.port}, 0 listening")
        connection = http.client.HTTPConnection("localhost", server.port, timeout=GENEROUS_S)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert connection.getresponse().status == 200


GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HOSTILE = [
    b"\0" * 1000,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    GET + b"X-Y: z\r\n" * 10_000 + b"\r\n",
    GET + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    GET + b"Host: evil.example\r\n\r\n",
    GET + b"Upgrade: websocket\r\n\r\n",
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
    # The server may well close it while we send.
    with socket.create_connection((HERE, port), timeout=GENEROUS_S) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


@pytest.mark.slow
def test_nothing_of_that_is_printed_over_the_display() -> None:
    # In a process of its own: pytest takes what is logged.
    code = (
        "import sys; from realtime_mer.osc.query import QueryServer; "
        "server = QueryServer('127.0.0.1', 0, control=None); "
        "print(server.port, flush=True); sys.stdin.read(); server.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for data in HOSTILE:
            send_all(port, data)
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == 0


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#")))
def test_whatever_is_asked_for_no_path_leaves_the_tree(server: QueryServer, rest: str) -> None:
    status, told = ask(server, f"/{rest}")
    assert status in (200, 204, 400, 404)
    if status == 200 and "?" not in rest:
        assert told["FULL_PATH"] in server._nodes


# --- mDNS ---


class Found(ServiceListener):
    """The services that are announced on loopback, by name."""

    def __init__(self) -> None:
        self.services: dict[str, tuple[list[str], int | None]] = {}

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        info = zc.get_service_info(type_, name)
        if info is not None:
            self.services[name] = (info.parsed_addresses(), info.port)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.services.pop(name, None)

    def of(self, server: QueryServer) -> list[str]:
        return [name for name, (_, port) in list(self.services.items()) if port == server.port]


@pytest.fixture
def found() -> Iterator[Found]:
    try:
        browser = Zeroconf(interfaces=[HERE])
    except OSError as error:
        pytest.skip(f"no mDNS here: {error}")
    with contextlib.closing(browser):
        if not multicast_works():
            pytest.skip("no multicast on the loopback interface here")
        listener = Found()
        ServiceBrowser(browser, ["_oscjson._tcp.local.", "_osc._udp.local."], listener)
        yield listener


def multicast_works() -> bool:
    """On loopback: whether what is sent to a group comes to who has joined it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("", 0))
        receiver.settimeout(2.0)
        try:
            member = socket.inet_aton(MDNS_GROUP) + socket.inet_aton(HERE)
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
            sender.sendto(b"here", (MDNS_GROUP, receiver.getsockname()[1]))
            return receiver.recv(16) == b"here"
        except OSError:
            return False


def test_the_server_and_the_control_port_are_found(found: Found) -> None:
    with contextlib.closing(QueryServer(HERE, 0, control=CONTROL)) as server:
        # Where several run on this computer, the later ones' names have a number.
        name = f"realtime-mer on {socket.gethostname().partition('.')[0]}"
        eventually(lambda: found.of(server))
        (full_name,) = found.of(server)
        assert full_name.startswith(name)
        assert full_name.endswith("._oscjson._tcp.local.")
        assert found.services[full_name] == ([HERE], server.port)
        eventually(lambda: ([HERE], CONTROL[1]) in found.services.values())
        assert "not announced" not in str(server.status())
        server.close()
        # It says goodbye.
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
            # For ourselves alone, as a responder does that shares with nobody.
            holder.bind(("", MDNS_PORT))
        except OSError as error:
            pytest.skip(f"somebody else has mDNS's port: {error}")
        with contextlib.closing(QueryServer(HERE, 0, control=None)) as server:
            eventually(lambda: "not announced" in str(server.status()))
            assert str(server.status()).endswith(f"(not announced: {os.strerror(errno.EADDRINUSE)})")
            assert ask(server, "/mer/valence?TYPE") == (200, {"TYPE": "f"})
