"""The tables [osc] and [control]: to whom what is sent, how, and who may steer the program."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from realtime_mer.config.addresses import LARGEST_PORT, in_numbers, is_host, parse_listen
from realtime_mer.config.checks import ConfigError, check_choice, check_range, check_text, wrong
from realtime_mer.config.space import MAPPABLE, matching

TRANSPORTS = ("udp", "broadcast", "multicast", "tcp")
SMOOTHINGS = ("none", "linear", "spring", "one-euro")
MAPPED_TYPES = ("float", "int")
DEFAULT_PORT = 9000
# Each target has a thread and a socket, and each of its own values is computed at its rate.
MAX_TARGETS = 64
MAX_MAPPED = 256


def check_address(key: str, address: str) -> None:
    """Refuses what is no OSC address: printable ASCII without space and #*,?[]{}, from a slash on."""
    parts = address.split("/")
    allowed = address.isascii() and address.isprintable() and not set(address) & set(" #*,?[]{}")
    if not allowed or len(parts) < 2 or parts[0] or not all(parts[1:]) or len(address) > 200:
        raise wrong(key, "an OSC address such as '/lights/1'", address)


def check_listen(key: str, value: str | None) -> None:
    """Refuses what names no port to listen at."""
    if value is not None:
        try:
            parse_listen(value)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from error


@dataclass(frozen=True, slots=True)
class MappedValue:
    """[[osc.targets.map]]: one value under an address of its own, as this target wants it.

    What is sent is scale · curved(x) + offset, where curved(x) = sign(x) · |x| ^ curve, held between low and high
    (none: no bound), and rounded where type is "int".
    value: a name of the address space with one number, such as "smooth/unipolar/valence". address: the whole address.
    """

    value: str
    address: str
    scale: float = 1.0
    offset: float = 0.0
    curve: float = 1.0
    low: float | None = None
    high: float | None = None
    type: str = "float"

    def __post_init__(self) -> None:
        if self.value not in MAPPABLE:
            near = difflib.get_close_matches(self.value.lower(), MAPPABLE, n=1)
            cure = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(MAPPABLE)}."
            raise ConfigError(f"{wrong('value', 'the name of one number of the address space', self.value)} {cure}")
        check_address("address", self.address)
        check_range("scale", self.scale, -1e6, 1e6)
        check_range("offset", self.offset, -1e6, 1e6)
        check_range("curve", self.curve, 0.1, 10)
        check_range("low", self.low, -1e6, 1e6)
        check_range("high", self.high, -1e6, 1e6)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise wrong("high", f"a number not below low ({self.low:g})", self.high)
        check_choice("type", self.type, MAPPED_TYPES)


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """[[osc.targets]]: one receiver, and how it wants to be served.

    host: a name, or an IPv4 or IPv6 address; with transport "multicast" the group, with "broadcast" the network's
        broadcast address. port: 1 to 65535. transport: one of TRANSPORTS; "tcp" frames packets with SLIP (OSC 1.1).
    ttl: how many networks a multicast may cross, 0 to 255. interface: which of this computer's networks a multicast or
        broadcast leaves by: its IPv4 address, or its name (as in eth0); none: what the system chooses.
    prefix: what the addresses of the address space begin with. send: which of its names are sent below that, with * for
        any characters; none of them: only what map says. map: at most MAX_MAPPED values at addresses of
        their own.
    bundle: whether what belongs to one moment is one packet; false: each message is a packet of its own.
    rate_hz: of the smooth values, 1 to 120. on_change: a value that is as it was last sent is not sent again.
    smoothing: one of SMOOTHINGS; settle_s: how long it takes (smoothing.py), 0.05 to 60; none: its own default.
        speed: how much sooner the one-euro filter follows large jumps, 0 to 10.
    home_after_s: after so long without music the smooth values glide to `home` (valence, arousal), 1 to 3600; none:
        they hold. glide_s: how long that takes, 0.05 to 600.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    transport: str = "udp"
    ttl: int = 1
    interface: str | None = None
    prefix: str = "/mer"
    send: tuple[str, ...] = ("*",)
    bundle: bool = True
    rate_hz: float = 30.0
    on_change: bool = False
    smoothing: str = "spring"
    settle_s: float | None = None
    speed: float = 1.0
    home_after_s: float | None = None
    home: tuple[float, ...] = (0.0, 0.0)
    glide_s: float = 3.0
    map: tuple[MappedValue, ...] = ()

    def __post_init__(self) -> None:
        check_text("host", self.host)
        if not is_host(self.host):
            raise wrong("host", "a name, or an address without brackets and port,", self.host)
        check_range("port", self.port, 1, LARGEST_PORT)
        check_choice("transport", self.transport, TRANSPORTS)
        check_range("ttl", self.ttl, 0, 255)
        check_text("interface", self.interface)
        _check_network(self)
        if self.prefix:
            check_address("prefix", self.prefix)
        for pattern in self.send:
            check_text("send", pattern)
            if not matching(pattern):
                raise wrong("send", "names of the address space without '/mer/', such as 'smooth/*',", pattern)
        check_range("rate_hz", self.rate_hz, 1, 120)
        check_choice("smoothing", self.smoothing, SMOOTHINGS)
        check_range("settle_s", self.settle_s, 0.05, 60)
        check_range("speed", self.speed, 0, 10)
        check_range("home_after_s", self.home_after_s, 1, 3600)
        if len(self.home) != 2 or not all(-1 <= value <= 1 for value in self.home):
            raise wrong("home", "valence and arousal, two numbers from -1 to 1,", list(self.home))
        check_range("glide_s", self.glide_s, 0.05, 600)
        _check_length("map", self.map, MAX_MAPPED)


def _check_length(key: str, values: tuple[object, ...], most: int) -> None:
    """Refuses what is more than this program can serve."""
    if len(values) > most:
        raise ConfigError(f"{key}: {most} are the most that there can be, and {len(values)} came.")


def _check_network(target: TargetSettings) -> None:
    """Raises ConfigError for an address and an interface that can never serve the transport; names may."""
    many = target.transport in ("multicast", "broadcast")
    if target.interface is not None and not many:
        raise wrong("interface", f"none, with transport {target.transport!r},", target.interface)
    host, interface = in_numbers(target.host), in_numbers(target.interface or "")
    if host is not None and target.transport == "multicast" and not host.is_multicast:
        raise wrong("host", "a multicast group, such as 239.1.2.3,", target.host)
    if host is not None and target.transport == "broadcast" and host.version == 6:
        raise wrong("host", "an IPv4 broadcast address, since IPv6 has none,", target.host)
    if host is not None and many and host.version == 6 and interface is not None:
        raise wrong("interface", "a name such as 'eth0', with an IPv6 group,", target.interface)


@dataclass(frozen=True, slots=True)
class OscSettings:
    """[osc]: targets: the receivers, at most MAX_TARGETS; none at all: nothing is sent.

    delay_s: how much later than they could everything is sent, 0 to 10, to meet sound that the audience hears late.
    query: where the OSCQuery server listens, as parse_listen reads it; none: there is none.
    """

    targets: tuple[TargetSettings, ...] = (TargetSettings(),)
    delay_s: float = 0.0
    query: str | None = None

    def __post_init__(self) -> None:
        _check_length("targets", self.targets, MAX_TARGETS)
        check_range("delay_s", self.delay_s, 0, 10)
        check_listen("query", self.query)


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """[control]: listen: where OSC commands are taken, as parse_listen reads it; none: nowhere."""

    listen: str | None = None

    def __post_init__(self) -> None:
        check_listen("listen", self.listen)
