"""OSCQuery: a server that tells other programs which addresses there are, and streams those that they listen to.

The protocol: https://github.com/Vidvox/OSCQueryProposal. JSON over HTTP describes the tree of addresses; over a
WebSocket a client says LISTEN and IGNORE, and hears OSC messages. The server is announced by mDNS. The packages of the
extra `query` are imported only where such a server is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import math
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from realtime_mer.config import TargetSettings, address_text
from realtime_mer.config.addresses import IPAddress, in_numbers
from realtime_mer.config.space import COMMANDS, SPACE, Address, Command
from realtime_mer.osc import OscError
from realtime_mer.osc.messages import Message, message_packet
from realtime_mer.osc.ports import fault
from realtime_mer.osc.status import QueryStatus

if TYPE_CHECKING:
    from aiohttp import web
    from zeroconf import ServiceInfo

# A node's attributes by name, as the protocol has them; CONTENTS holds further nodes.
Node = dict[str, Any]

_DESCRIPTION = "The mood of the music that is heard, as valence and arousal"
_CONTROL = "/mer/control"
_READ, _WRITE = 1, 2
# As the protocol's list of units calls ours (its units.md).
_UNITS = {"°": "angle.degree", "s": "time.second", "ms": "time.ms", "dBFS": "gain.db"}
_REQUIRED = ("FULL_PATH", "CONTENTS", "TYPE")
_OPTIONAL = ("ACCESS", "VALUE", "RANGE", "DESCRIPTION", "UNIT", "CLIPMODE", "OVERLOADS")
_NOT_SERVED = ("TAGS", "EXTENDED_TYPE", "CRITICAL", "HTML")

_MOST_CLIENTS = 16
_MOST_CONNECTIONS = 64
# Over a second of everything that is ever sent.
_MOST_WAITING = 512
_LONGEST_FRAME_BYTES = 4096
# About a second of everything, as often as it stands here and there on the way. Left to itself, the system would keep
# minutes of them for a client that reads too slowly.
_BUFFER_BYTES = 16_384
# What each request takes at least: who asks as fast as they can is then given little of this process's time.
_REQUEST_S = 0.002
# In a second; several times as many as there are addresses to listen to.
_MOST_FRAMES = 500
_IDLE_S = 30.0
# A client that has not taken anything for one and a half times as long is gone.
_PING_S = 20.0
# Together these stay below what `close` may take. zeroconf's goodbye takes a quarter of a second, from the start on.
_LEAVE_S = 0.1
_SHUTDOWN_S = 0.05
_GOODBYE_S = 0.25
_JOIN_TIMEOUT_S = 0.5

# Names that no site of the internet can have, so that their addresses are from this computer or this network.
_NEAR = (".local", ".localhost", ".lan", ".internal", ".home.arpa")


class QueryServer:
    """Serves the tree of addresses at an HTTP port, in a thread of its own, and announces that by mDNS.

    host: an address of this computer, or a name of it; port: 0 takes a free one.
    control: the address, in numbers, and the port where commands are taken; None where they are not.

    Client programs say LISTEN for each address they want to hear; a container's does not mean what is in it. Each OSC
    message comes as a binary frame of its own, for many clients read no bundles there. A client that reads too slowly
    loses the oldest messages; one that does not answer for half a minute, or says too much, is let go. More than 16 are
    refused. What clients send beside LISTEN and IGNORE is counted and ignored.

    Pages of web sites are refused, and so is any name for this computer that a web site may have made up (DNS
    rebinding): what is meant is an address in numbers, a name without dots or one that ends in _NEAR, the computer's
    own, or `host`.

    Where mDNS cannot be had the server goes on without; `status` says so.
    Raises OscError where the port cannot be had, or the packages are not installed.
    """

    def __init__(self, host: str, port: int, *, control: tuple[str, int] | None) -> None:
        _require_packages()
        self.settings = TargetSettings()
        self.host = host
        # The port as it is bound, once it is.
        self.port = port
        self._control = control
        self._name = f"realtime-mer on {_computer_name()}"
        # All of these are for the server's thread only, but that others read the counts.
        self._nodes = address_tree(self.settings.prefix, with_commands=control is not None)
        self._clients: set[_Client] = set()
        self._ignored = 0
        self._lost = 0
        self._mdns_fault = ""
        self._turn = asyncio.Lock()
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        # From `take` to the server's thread.
        self._mailbox: deque[list[Message]] = deque(maxlen=_MOST_WAITING)
        self._missed = 0
        self._woken = False
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="oscquery", daemon=True)
        self._thread.start()
        opened.result()

    def take(self, messages: list[Message]) -> None:
        """What is now sent. For one thread; never waits, never raises."""
        self._missed += len(self._mailbox) == _MOST_WAITING
        self._mailbox.append(messages)
        if not self._woken:
            self._woken = True
            # The loop may have ended.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._spread)

    def status(self) -> QueryStatus:
        """For any thread."""
        listening = sum(bool(client.heard) for client in tuple(self._clients))
        address = address_text(self.host, self.port)
        return QueryStatus(address, listening, self._lost + self._missed, self._ignored, self._mdns_fault)

    def close(self) -> None:
        """Takes leave of all clients. Takes half a second at most; harmless when called twice."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(_JOIN_TIMEOUT_S)

    def _run(self, opened: Future[None]) -> None:
        """The thread."""
        try:
            asyncio.run(self._serve(opened))
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def _serve(self, opened: Future[None]) -> None:
        from aiohttp import web

        self._loop = asyncio.get_running_loop()
        server = web.Server(self._answer, access_log=None, keepalive_timeout=_IDLE_S, auto_decompress=False)
        try:
            listening = await self._loop.create_server(
                lambda: server() if len(server.connections) < _MOST_CONNECTIONS else _Refusal(), self.host, self.port
            )
        # A name with an empty or overlong part raises UnicodeError, a ValueError.
        except (OSError, ValueError) as error:
            why = fault(
                error if isinstance(error, OSError) else OSError(str(error)),
                self.host,
                self.port,
                tcp=True,
                if_taken="Give another port, or end that program; it may be another realtime-mer.",
            )
            raise OscError(f"OSCQuery cannot be had at {address_text(self.host, self.port)}: {why}") from error
        self.port = listening.sockets[0].getsockname()[1]
        bound = [ipaddress.ip_address(one.getsockname()[0]) for one in listening.sockets]
        opened.set_result(None)
        announcing = asyncio.create_task(self._announce(bound))
        await self._ending.wait()
        listening.close()
        announcing.cancel()
        if leaving := [asyncio.create_task(client.leave()) for client in self._clients]:
            await asyncio.wait(leaving, timeout=_LEAVE_S)
        for connection in server.connections:
            if connection.transport is not None:
                # What a client does not read would hold its connection open.
                connection.transport.abort()
        await server.shutdown(_SHUTDOWN_S)
        await asyncio.wait([announcing], timeout=_GOODBYE_S)

    # --- what is told ---

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """To an HTTP request, whatever it is."""
        from aiohttp import web

        async with self._turn:
            await asyncio.sleep(_REQUEST_S)
        name = _host_name(f"//{request.headers.get('Host', '')}")
        origin = request.headers.get("Origin")
        if not (_is_near(name) or name in (self.host.lower(), socket.gethostname().lower())):
            return self._refusal(403, "Ask for this computer by its address in numbers, or by its own name.")
        if origin is not None and not self._may_ask(origin, name):
            return self._refusal(403, "A web site's page may not ask.")
        if request.method not in ("GET", "HEAD"):
            return self._refusal(405, "Only GET is answered.", {"Allow": "GET, HEAD"})
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._converse(request)
        headers = {"Cache-Control": "no-store"} | ({} if origin is None else {"Access-Control-Allow-Origin": origin})
        if "HOST_INFO" in request.query:
            told: Node | None = self._host_info(request)
        else:
            node = self._nodes.get(request.path.rstrip("/") or "/")
            if node is None:
                return self._refusal(404, "There is no such address.", headers)
            if unknown := [name for name in request.query if name not in (*_REQUIRED, *_OPTIONAL, *_NOT_SERVED)]:
                return self._refusal(400, f"There is no such attribute: {', '.join(unknown)[:80]}", headers)
            told = _told(node, tuple(request.query))
        if told is None:
            return web.Response(status=204, headers=headers)
        return web.Response(text=json.dumps(told), content_type="application/json", headers=headers)

    def _refusal(self, status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
        from aiohttp import web

        return web.Response(status=status, text=f"{why}\n", headers=headers)

    def _may_ask(self, origin: str, name: str) -> bool:
        """Whether pages from there may ask: from this server's own name, this computer, or this network."""
        asking = _host_name(origin)
        address = in_numbers(asking)
        return asking == name or (_is_near(asking) if address is None else address.is_private)

    def _host_info(self, request: web.BaseRequest) -> Node:
        served = _OPTIONAL if self._control else tuple(name for name in _OPTIONAL if name != "OVERLOADS")
        info: Node = {"NAME": self._name, "EXTENSIONS": dict.fromkeys((*served, "LISTEN"), True)}
        if self._control is not None:
            host, port = self._control
            address = in_numbers(host)
            if address is not None and address.is_unspecified and request.transport is not None:
                # Any address of this computer's: then the one that the client found.
                host = request.transport.get_extra_info("sockname")[0]
            info |= {"OSC_IP": host, "OSC_PORT": port, "OSC_TRANSPORT": "UDP"}
        return info

    # --- what is streamed ---

    async def _converse(self, request: web.BaseRequest) -> web.StreamResponse:
        """With a client, over its WebSocket, until it or we leave."""
        from aiohttp import WSCloseCode, WSMsgType, web

        if len(self._clients) >= _MOST_CLIENTS:
            return self._refusal(503, f"{_MOST_CLIENTS} clients are connected already.")
        client = _Client(
            web.WebSocketResponse(
                # Pings are answered here, where they count as other frames do.
                autoping=False,
                heartbeat=_PING_S,
                timeout=_LEAVE_S,
                compress=False,
                max_msg_size=_LONGEST_FRAME_BYTES,
                writer_limit=_BUFFER_BYTES,
            )
        )
        self._clients.add(client)
        sending = None
        try:
            if request.transport is not None:
                request.transport.set_write_buffer_limits(_BUFFER_BYTES)
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            await client.socket.prepare(request)
            sending = asyncio.create_task(client.send_all())
            n_frames, since_s = 0, time.monotonic()
            async for frame in client.socket:
                n_frames += 1
                if n_frames > _MOST_FRAMES:
                    if time.monotonic() - since_s < 1.0:
                        await client.socket.close(code=WSCloseCode.POLICY_VIOLATION)
                        break
                    n_frames, since_s = 0, time.monotonic()
                if frame.type is WSMsgType.PING:
                    await client.socket.pong(frame.data)
                elif frame.type is not WSMsgType.PONG:
                    self._ignored += not (frame.type is WSMsgType.TEXT and self._heed(client, frame.data))
        finally:
            self._clients.discard(client)
            if sending is not None:
                sending.cancel()
        return client.socket

    def _heed(self, client: _Client, text: str) -> bool:
        """Does what the client says; returns whether that was anything."""
        try:
            match json.loads(text):
                case {"COMMAND": "LISTEN", "DATA": str(address)} if address in self._nodes:
                    client.heard.add(address)
                    return True
                case {"COMMAND": "IGNORE", "DATA": str(address)} if address in self._nodes:
                    client.heard.discard(address)
                    return True
        # Brackets in brackets go deeper than Python does.
        except (ValueError, RecursionError):
            pass
        return False

    def _spread(self) -> None:
        """What was taken becomes the addresses' values, and goes to whoever listens to them."""
        # First of all, so that what is taken meanwhile has this called again.
        self._woken = False
        while self._mailbox:
            for message in self._mailbox.popleft():
                self._nodes[message.address]["VALUE"] = [_as_json(value) for value in message.values]
                listeners = [client for client in self._clients if message.address in client.heard]
                if listeners:
                    data = message_packet(message)
                    self._lost += sum(not client.put(data) for client in listeners)

    # --- how it is found ---

    async def _announce(self, bound: list[IPAddress]) -> None:
        """By mDNS, on the networks that the server listens on, until cancelled.

        bound: the addresses that it listens on.
        """
        from zeroconf import Error, InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        everywhere = any(address.is_unspecified for address in bound)
        version = IPVersion.V6Only if all(address.version == 6 for address in bound) else IPVersion.V4Only
        try:
            announcer = (
                AsyncZeroconf(InterfaceChoice.All, ip_version=version)
                if everywhere
                else AsyncZeroconf([str(address) for address in bound])
            )
            try:
                # Cancelled while it starts, it would leave its sockets open.
                await asyncio.shield(announcer.zeroconf.async_wait_for_start())
                if not announcer.zeroconf.engine.senders:
                    raise OSError("the network takes no multicast")
                registering = [
                    announcer.async_register_service(service, allow_name_change=True)
                    for service in self._services(bound)
                ]
                await asyncio.gather(*await asyncio.gather(*registering))
                await asyncio.Event().wait()
            finally:
                # Says goodbye for all that were registered.
                await announcer.async_close()
        # RuntimeError: no network at all, or an address that has gone.
        except (OSError, RuntimeError, Error) as error:
            self._mdns_fault = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__

    def _services(self, bound: list[IPAddress]) -> list[ServiceInfo]:
        """What is announced: this server, and the control port where whoever finds it can reach it."""
        from zeroconf import ServiceInfo

        def service(kind: str, addresses: list[IPAddress], port: int) -> ServiceInfo:
            return ServiceInfo(
                kind,
                f"{self._name}.{kind}",
                port=port,
                parsed_addresses=[str(address) for address in addresses],
                # A host of our own: the computer's name is announced by the system, and may have more addresses.
                server=f"realtime-mer-{port}-{_computer_name()}.local.",
            )

        addresses = _reachable(bound)
        services = [service("_oscjson._tcp.local.", addresses, self.port)]
        if self._control is not None and (control := in_numbers(self._control[0])) is not None:
            if control.is_unspecified:
                services.append(service("_osc._udp.local.", addresses, self._control[1]))
            elif not control.is_loopback or all(address.is_loopback for address in addresses):
                services.append(service("_osc._udp.local.", [control], self._control[1]))
        return services


class _Client:
    """A WebSocket's: what it listens to, and the messages that wait until it takes them."""

    def __init__(self, websocket: web.WebSocketResponse) -> None:
        self.socket = websocket
        self.heard: set[str] = set()
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._news = asyncio.Event()

    def put(self, message: bytes) -> bool:
        """A message to send; returns whether all that wait can, else the oldest is lost."""
        fits = len(self._waiting) < _MOST_WAITING
        self._waiting.append(message)
        self._news.set()
        return fits

    async def send_all(self) -> None:
        """Sends whatever there is, as fast as the client takes it, until cancelled or the client is gone."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    await self.socket.send_bytes(self._waiting.popleft())

    async def leave(self) -> None:
        """Says goodbye, and waits a moment for the client's."""
        from aiohttp import WSCloseCode

        if self.socket.prepared:
            await self.socket.close(code=WSCloseCode.GOING_AWAY)


class _Refusal(asyncio.Protocol):
    """For a connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def address_tree(prefix: str, *, with_commands: bool) -> dict[str, Node]:
    """Every node of the address space by its whole address, containers too; "/" is the whole tree.

    The nodes are the same objects as those in their containers' CONTENTS: a VALUE that is set in one is told with all.
    """
    nodes: dict[str, Node] = {"/": {"FULL_PATH": "/", "DESCRIPTION": _DESCRIPTION, "ACCESS": 0, "CONTENTS": {}}}
    leaves = [(f"{prefix}/{address.name}", _readable(address)) for address in SPACE]
    if with_commands:
        leaves += [(f"{_CONTROL}/{command.name}", _writable(command)) for command in COMMANDS]
    for path, leaf in leaves:
        *containers, name = path[1:].split("/")
        above, walked = nodes["/"], ""
        for container in containers:
            walked += f"/{container}"
            if walked not in nodes:
                nodes[walked] = {"FULL_PATH": walked, "ACCESS": 0, "CONTENTS": {}}
                above["CONTENTS"][container] = nodes[walked]
            above = nodes[walked]
        nodes[path] = above["CONTENTS"][name] = {"FULL_PATH": path, **leaf}
    return nodes


def _readable(address: Address) -> Node:
    node: Node = {"DESCRIPTION": address.meaning, "TYPE": address.types, "ACCESS": _READ}
    number = float if "f" in address.types else int
    bounds = {key: number(bound) for key, bound in (("MIN", address.low), ("MAX", address.high)) if bound is not None}
    n_values = len(address.types)
    if bounds:
        kept = "both" if len(bounds) == 2 else "low" if "MIN" in bounds else "high"
        node |= {"RANGE": [bounds] * n_values, "CLIPMODE": [kept] * n_values}
    if address.unit:
        node["UNIT"] = [_UNITS[address.unit]] * n_values
    return node


def _writable(command: Command) -> Node:
    # "I", an impulse, is what clients draw a button for.
    node: Node = {"DESCRIPTION": command.meaning, "TYPE": command.types or "I", "ACCESS": _WRITE}
    if command.optional:
        longer = [command.types + command.optional[: n + 1] for n in range(len(command.optional))]
        node["OVERLOADS"] = [{"TYPE": types, "ACCESS": _WRITE} for types in longer]
    return node


def _told(node: Node, names: tuple[str, ...]) -> Node | None:
    """What is asked for of a node: all where no attribute is named. None: nothing, since that makes no sense here.

    Whether an attribute of the protocol's that is not served is "400" or "204", the protocol says both; here: 204.
    """
    if not names:
        return node
    if any(name in _NOT_SERVED for name in names) or ("VALUE" in names and node["ACCESS"] != _READ):
        return None
    return {name: node[name] for name in names if name in node}


def _as_json(value: object) -> object:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _host_name(url: str) -> str:
    """The host that a URL names, in small letters; "" where it names none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_near(name: str) -> bool:
    """Whether a host's name cannot be one that a site of the internet has made up: an address, or a near name."""
    return bool(name) and (in_numbers(name) is not None or "." not in name or name.endswith(_NEAR))


def _reachable(bound: list[IPAddress]) -> list[IPAddress]:
    """The addresses at which others reach what is bound to these, IPv4 first."""
    import ifaddr

    found = {address for address in bound if not address.is_unspecified}
    for version in {address.version for address in bound if address.is_unspecified}:
        ips = [one.ip for adapter in ifaddr.get_adapters() for one in adapter.ips]
        own = [ipaddress.ip_address(ip if isinstance(ip, str) else ip[0]) for ip in ips]
        of_version = {address for address in own if address.version == version and not address.is_link_local}
        found |= {address for address in of_version if not address.is_loopback} or of_version
    return sorted(found, key=lambda address: (address.version, int(address)))


def _computer_name() -> str:
    # Without its domain; short enough for what is put before and behind it in a name of 63 bytes.
    return socket.gethostname().partition(".")[0][:32] or "localhost"


def _require_packages() -> None:
    """Raises OscError where they are not installed."""
    try:
        import aiohttp  # noqa: F401
        import ifaddr  # noqa: F401
        import zeroconf  # noqa: F401
    except ImportError as error:
        raise OscError(
            f"OSCQuery needs packages that are not installed ({error.name}): install realtime-mer with its extra, in a "
            "clone by: .venv/bin/pip install '.[query]'"
        ) from error
    # What a client does wrong is counted; without a handler, Python would print it over the display.
    logging.getLogger("aiohttp").addHandler(logging.NullHandler())
