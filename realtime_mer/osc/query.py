"""OSCQuery: a server that describes all addresses to other programs, and streams those that they listen to.

The protocol: https://github.com/Vidvox/OSCQueryProposal. JSON over HTTP describes the tree of addresses; over a
WebSocket a client sends LISTEN and IGNORE, and receives OSC messages. The server is announced by mDNS. The packages of
the extra `query` are imported only if the server is used.
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
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from realtime_mer.config import TargetSettings, address_text
from realtime_mer.config.addresses import IPAddress, in_numbers
from realtime_mer.config.space import COMMANDS, SPACE, Address, Command
from realtime_mer.osc import OscError
from realtime_mer.osc.messages import Message, message_packet
from realtime_mer.osc.ports import open_port
from realtime_mer.osc.status import QueryStatus

if TYPE_CHECKING:
    from aiohttp import web
    from zeroconf import ServiceInfo

# A node's attributes by their names in the protocol; CONTENTS holds further nodes.
Node = dict[str, Any]

_DESCRIPTION = "The mood of the music at the input, as valence and arousal"
_CONTROL = "/mer/control"
_READ, _WRITE = 1, 2
# Our units as the protocol's units.md names them.
_UNITS = {"°": "angle.degree", "s": "time.second", "ms": "time.ms", "dBFS": "gain.db"}
_REQUIRED = ("FULL_PATH", "CONTENTS", "TYPE")
_OPTIONAL = ("ACCESS", "VALUE", "RANGE", "DESCRIPTION", "UNIT", "CLIPMODE", "OVERLOADS")
_NOT_SERVED = ("TAGS", "EXTENDED_TYPE", "CRITICAL", "HTML")

_MOST_CLIENTS = 16
_MOST_CONNECTIONS = 64
# More than a second of everything that is sent.
_MOST_WAITING = 512
_LONGEST_FRAME_BYTES = 4096
# About a second of everything, in each buffer on the way. The system's default would hold minutes for a slow client.
_BUFFER_BYTES = 16_384
# Requests and frames of all clients, so that a flood of them takes little of this process's time.
_MOST_HZ = 500
_IDLE_S = 30.0
# A client that does not answer for one and a half times as long is disconnected.
_PING_S = 20.0
# Together these stay below the limit of `close`. zeroconf's goodbye takes a quarter of a second.
_LEAVE_S = 0.1
_SHUTDOWN_S = 0.05
_GOODBYE_S = 0.25
_JOIN_TIMEOUT_S = 0.5

# Names that no internet site can have, so they mean this computer or this network.
_NEAR = (".local", ".localhost", ".lan", ".internal", ".home.arpa")


class QueryServer:
    """Serves the tree of addresses at an HTTP port, in a thread of its own, and announces it by mDNS.

    host: an address or a name of this computer; port: 0 takes a free one.
    control: the numeric address and the port where commands are taken; None if they are not.

    Each OSC message is a binary frame of its own, since many clients do not read bundles here. A client that reads too
    slowly loses the oldest messages. Anything that clients send except LISTEN and IGNORE is counted and ignored.
    Pages of web sites are refused, and so are names for this computer that a web site may have made up (DNS rebinding).
    docs/osc/discovery.md describes all of this.

    Without mDNS the server runs unannounced; `status` shows it.
    Raises OscError if the port cannot be opened, or the packages are not installed.
    """

    def __init__(self, host: str, port: int, *, control: tuple[str, int] | None) -> None:
        _require_packages()
        self.settings = TargetSettings()
        self.host = host
        self._socket = open_port(
            host,
            port,
            failure=f"OSCQuery cannot listen at {address_text(host, port)}",
            if_taken="Give another port, or end that program; it may be another realtime-mer.",
            tcp=True,
        )
        bound, self.port = self._socket.getsockname()[:2]
        self._bound = ipaddress.ip_address(bound)
        self._control = control
        self._name = f"realtime-mer on {_computer_name()}"
        # For the server's thread only, except that others read the counts.
        self._nodes = address_tree(self.settings.prefix, with_commands=control is not None)
        self._clients: set[_Client] = set()
        self._ignored = 0
        self._lost = 0
        self._mdns_fault = ""
        self._turn = asyncio.Lock()
        self._ending = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="oscquery", daemon=True)
        self._thread.start()

    def take(self, messages: list[Message]) -> None:
        """Streams what is sent now. For one thread; never waits, never raises."""
        # The loop may have ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stream, messages)

    def status(self) -> QueryStatus:
        """For any thread."""
        listening = sum(bool(client.listened) for client in tuple(self._clients))
        address = address_text(self.host, self.port)
        return QueryStatus(address, listening, self._lost, self._ignored, self._mdns_fault)

    def close(self) -> None:
        """Disconnects all clients, within half a second. May be called twice."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(_JOIN_TIMEOUT_S)

    def _run(self) -> None:
        """The thread."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        from aiohttp import web

        server = web.Server(self._answer, access_log=None, keepalive_timeout=_IDLE_S, auto_decompress=False)
        listening = await self._loop.create_server(
            lambda: server() if len(server.connections) < _MOST_CONNECTIONS else _Refusal(), sock=self._socket
        )
        announcing = asyncio.create_task(self._announce())
        await self._ending.wait()
        listening.close()
        announcing.cancel()
        if leaving := [asyncio.create_task(client.leave()) for client in self._clients]:
            await asyncio.wait(leaving, timeout=_LEAVE_S)
        for connection in server.connections:
            if connection.transport is not None:
                # Unread data would keep the connection open.
                connection.transport.abort()
        await server.shutdown(_SHUTDOWN_S)
        await asyncio.wait([announcing], timeout=_GOODBYE_S)

    async def _take_turn(self) -> None:
        async with self._turn:
            await asyncio.sleep(1.0 / _MOST_HZ)

    # --- HTTP ---

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to any HTTP request."""
        from aiohttp import web

        await self._take_turn()
        name = _host_name(f"//{request.headers.get('Host', '')}")
        origin = request.headers.get("Origin")
        if not (_is_near(name) or name in (self.host.lower(), socket.gethostname().lower())):
            raise web.HTTPForbidden(text="Use this computer's numeric address or its own name.\n")
        if origin is not None and not _may_ask(origin, name):
            raise web.HTTPForbidden(text="Pages of web sites are refused.\n")
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"), text="Only GET is supported.\n")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._serve_client(request)
        headers = {"Cache-Control": "no-store"}
        if origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
        node = self._look_up(request)
        return web.Response(status=204, headers=headers) if node is None else web.json_response(node, headers=headers)

    def _look_up(self, request: web.BaseRequest) -> Node | None:
        """A node's attributes; None if it does not have the one asked for. Raises HTTPException."""
        from aiohttp import web

        if "HOST_INFO" in request.query:
            return self._host_info(request)
        node = self._nodes.get(request.path.rstrip("/") or "/")
        if node is None:
            raise web.HTTPNotFound(text="There is no such address.\n")
        names = tuple(request.query)
        if unknown := [name for name in names if name not in (*_REQUIRED, *_OPTIONAL, *_NOT_SERVED)]:
            raise web.HTTPBadRequest(text=f"There is no such attribute: {', '.join(unknown)[:80]}\n")
        # For attributes that are not served, the protocol allows 400, too.
        if any(name in _NOT_SERVED for name in names) or ("VALUE" in names and node["ACCESS"] != _READ):
            return None
        return {name: node[name] for name in names if name in node} if names else node

    def _host_info(self, request: web.BaseRequest) -> Node:
        info: Node = {"NAME": self._name, "EXTENSIONS": dict.fromkeys((*_OPTIONAL, "LISTEN"), True)}
        if self._control is not None:
            host, port = self._control
            address = in_numbers(host)
            if address is not None and address.is_unspecified and request.transport is not None:
                # All addresses of this computer: give the one that the client uses.
                host = request.transport.get_extra_info("sockname")[0]
            info |= {"OSC_IP": host, "OSC_PORT": port, "OSC_TRANSPORT": "UDP"}
        return info

    # --- WebSocket ---

    async def _serve_client(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serves a WebSocket until it is closed."""
        from aiohttp import WSMsgType, web

        if len(self._clients) >= _MOST_CLIENTS:
            raise web.HTTPServiceUnavailable(text=f"{_MOST_CLIENTS} clients are connected already.\n")
        client = _Client(
            web.WebSocketResponse(
                # Pings are answered below, since they must take their turn, too.
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
            async for frame in client.socket:
                await self._take_turn()
                if frame.type is WSMsgType.PING:
                    await client.socket.pong(frame.data)
                elif frame.type is not WSMsgType.PONG:
                    self._ignored += not (frame.type is WSMsgType.TEXT and self._obey(client, frame.data))
        finally:
            self._clients.discard(client)
            if sending is not None:
                sending.cancel()
        return client.socket

    def _obey(self, client: _Client, text: str) -> bool:
        """Carries out LISTEN and IGNORE; returns whether it was one of them."""
        # RecursionError: too many nested brackets.
        with contextlib.suppress(ValueError, RecursionError):
            match json.loads(text):
                case {"COMMAND": "LISTEN" | "IGNORE" as command, "DATA": str(address)} if address in self._nodes:
                    (client.listened.add if command == "LISTEN" else client.listened.discard)(address)
                    return True
        return False

    def _stream(self, messages: list[Message]) -> None:
        """Updates the values of the addresses, and sends them to the clients that listen."""
        for message in messages:
            self._nodes[message.address]["VALUE"] = [
                # JSON has no NaN and no infinity.
                None if isinstance(value, float) and not math.isfinite(value) else value
                for value in message.values
            ]
            if listeners := [client for client in self._clients if message.address in client.listened]:
                data = message_packet(message)
                self._lost += sum(not client.put(data) for client in listeners)

    # --- mDNS ---

    async def _announce(self) -> None:
        """Announces the server on the networks that it listens on, until cancelled."""
        from zeroconf import Error, InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        version = IPVersion.V6Only if self._bound.version == 6 else IPVersion.V4Only
        try:
            announcer = (
                AsyncZeroconf(InterfaceChoice.All, ip_version=version)
                if self._bound.is_unspecified
                else AsyncZeroconf([str(self._bound)])
            )
            try:
                # Cancelled while it starts, it would leave its sockets open.
                await asyncio.shield(announcer.zeroconf.async_wait_for_start())
                if not announcer.zeroconf.engine.senders:
                    raise OSError("the network takes no multicast")
                registering = [
                    announcer.async_register_service(service, allow_name_change=True) for service in self._services()
                ]
                await asyncio.gather(*await asyncio.gather(*registering))
                await asyncio.Event().wait()
            finally:
                # Sends the goodbyes of all that were registered.
                await announcer.async_close()
        # RuntimeError: no network at all, or an address that has gone.
        except (OSError, RuntimeError, Error) as error:
            self._mdns_fault = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__

    def _services(self) -> list[ServiceInfo]:
        """The announcements: this server, and the control port if other programs can reach it."""
        from zeroconf import ServiceInfo

        def service(kind: str, addresses: list[IPAddress], port: int) -> ServiceInfo:
            return ServiceInfo(
                kind,
                f"{self._name}.{kind}",
                port=port,
                parsed_addresses=[str(address) for address in addresses],
                # Not the computer's name, which the system announces itself, maybe with more addresses.
                server=f"realtime-mer-{port}-{_computer_name()}.local.",
            )

        addresses = _reachable(self._bound)
        services = [service("_oscjson._tcp.local.", addresses, self.port)]
        if self._control is not None and (control := in_numbers(self._control[0])) is not None:
            if control.is_unspecified:
                services.append(service("_osc._udp.local.", addresses, self._control[1]))
            elif not control.is_loopback or all(address.is_loopback for address in addresses):
                services.append(service("_osc._udp.local.", [control], self._control[1]))
        return services


class _Client:
    """A WebSocket, the addresses that it listens to, and the messages that wait for it."""

    def __init__(self, websocket: web.WebSocketResponse) -> None:
        self.socket = websocket
        self.listened: set[str] = set()
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)

    def put(self, message: bytes) -> bool:
        """Queues a message; returns False if the oldest one was dropped for it."""
        fits = not self._waiting.full()
        if not fits:
            self._waiting.get_nowait()
        self._waiting.put_nowait(message)
        return fits

    async def send_all(self) -> None:
        """Sends the messages as fast as the client reads them, until cancelled or the client is gone."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self.socket.send_bytes(await self._waiting.get())

    async def leave(self) -> None:
        """Closes the WebSocket, and waits a moment for the client to confirm."""
        from aiohttp import WSCloseCode

        if self.socket.prepared:
            await self.socket.close(code=WSCloseCode.GOING_AWAY)


class _Refusal(asyncio.Protocol):
    """Closes a connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def address_tree(prefix: str, *, with_commands: bool) -> dict[str, Node]:
    """Every node of the address space by its whole address, containers too; "/" is the whole tree.

    The nodes are the same objects as those in their containers' CONTENTS, so a VALUE is set in both.
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
    # Clients draw a button for "I", an impulse.
    node: Node = {"DESCRIPTION": command.meaning, "TYPE": command.types or "I", "ACCESS": _WRITE}
    if command.optional:
        longer = [command.types + command.optional[: n + 1] for n in range(len(command.optional))]
        node["OVERLOADS"] = [{"TYPE": types, "ACCESS": _WRITE} for types in longer]
    return node


def _host_name(url: str) -> str:
    """The host in a URL, in lower case; "" if there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_near(name: str) -> bool:
    """Whether an internet site cannot have made this host name up: an address, or a name of this network."""
    return bool(name) and (in_numbers(name) is not None or "." not in name or name.endswith(_NEAR))


def _may_ask(origin: str, name: str) -> bool:
    """Whether pages from there may ask: of this server's own name, this computer, or this network."""
    host = _host_name(origin)
    address = in_numbers(host)
    return host == name or (_is_near(host) if address is None else address.is_private)


def _reachable(bound: IPAddress) -> list[IPAddress]:
    """The addresses at which others reach a server that is bound to this one."""
    import ifaddr

    if not bound.is_unspecified:
        return [bound]
    ips = [one.ip for adapter in ifaddr.get_adapters() for one in adapter.ips]
    own = {ipaddress.ip_address(ip if isinstance(ip, str) else ip[0]) for ip in ips}
    usable = {address for address in own if address.version == bound.version and not address.is_link_local}
    return sorted({address for address in usable if not address.is_loopback} or usable, key=int)


def _computer_name() -> str:
    # Without its domain, and short enough for a name of 63 bytes with what is added to it.
    return socket.gethostname().partition(".")[0][:32] or "localhost"


def _require_packages() -> None:
    """Raises OscError if they are not installed."""
    try:
        import aiohttp  # noqa: F401
        import ifaddr  # noqa: F401
        import zeroconf  # noqa: F401
    except ImportError as error:
        raise OscError(
            f"OSCQuery needs a package that is not installed ({error.name}). Install the extra `query`, in a clone "
            "with: .venv/bin/pip install '.[query]'"
        ) from error
    # Errors of clients are counted; without a handler, Python would print them over the display.
    logging.getLogger("aiohttp").addHandler(logging.NullHandler())
