"""The tables [osc] and [control]: where OSC is sent, how, and where commands are received.

The types hold each key's range. `__post_init__` checks what a range cannot express.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from realtime_mer.config.addresses import LARGEST_PORT, in_numbers, is_host, parse_listen
from realtime_mer.config.checks import ConfigError, Text, one_of, wrong
from realtime_mer.config.space import MAPPABLE, matching
from realtime_mer.errors import nearest

TRANSPORTS = ("udp", "broadcast", "multicast", "tcp")
SMOOTHINGS = ("none", "linear", "spring", "one-euro")
MAPPED_TYPES = ("float", "int")
DEFAULT_PORT = 9000
# Each target has a thread and a socket, and each of its own values is computed at its rate.
MAX_TARGETS = 64
MAX_MAPPED = 256

# Printable ASCII without space and OSC's special characters.
_PART = r"/[^\x00-\x20#*,/?\[\]{}\x7f-\U0010ffff]+"
_Address = Annotated[
    str, Meta(pattern=rf"\A(?:{_PART})+\Z", max_length=200, description="an OSC address such as '/lights/1'")
]
_Prefix = Annotated[
    str, Meta(pattern=rf"\A(?:{_PART})*\Z", max_length=200, description="an OSC address such as '/lights/1', or ''")
]
_Million = Annotated[float, Meta(ge=-1_000_000, le=1_000_000)]
_Unit = Annotated[float, Meta(ge=-1, le=1)]


def _check_listen(key: str, value: str | None) -> None:
    if value is not None:
        try:
            parse_listen(value)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from error


@dataclass(frozen=True, slots=True)
class MappedValue:
    """[[osc.targets.map]]: one value under an address of its own, as this target wants it.

    The value sent is scale · curved(x) + offset with curved(x) = sign(x) · |x| ^ curve, limited to low and high (None:
    no limit), and rounded if type is "int".
    value: a name of the address space with one number, such as "smooth/unipolar/valence". address: the whole address.
    """

    value: str
    address: _Address
    scale: _Million = 1.0
    offset: _Million = 0.0
    curve: Annotated[float, Meta(ge=0.1, le=10)] = 1.0
    low: _Million | None = None
    high: _Million | None = None
    type: Annotated[str, one_of(*MAPPED_TYPES)] = "float"

    def __post_init__(self) -> None:
        if self.value not in MAPPABLE:
            near = nearest(self.value, MAPPABLE)
            hint = f"Did you mean {near}?" if near else f"There are: {', '.join(MAPPABLE)}."
            raise ConfigError(f"{wrong('value', 'the name of one number of the address space', self.value)} {hint}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise wrong("high", f"a number not below low ({self.low:g})", self.high)


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """[[osc.targets]]: one receiver.

    host: a name, or an IPv4 or IPv6 address; with transport "multicast" the group, with "broadcast" the network's
        broadcast address. transport: one of TRANSPORTS; "tcp" frames packets with SLIP (OSC 1.1).
    ttl: how many networks a multicast may cross. interface: the network of this computer that a multicast or broadcast
        leaves by: its IPv4 address, or its name (such as eth0); None: the system's choice.
    prefix: what the addresses of the address space begin with. send: which of its names are sent below the prefix, with
        * for any characters; empty: only those of map. map: values at addresses of their own.
    bundle: whether the values of one moment are one packet; False: each message is a packet of its own.
    rate_hz: of the smooth values. on_change: don't send a value again that has not changed.
    smoothing: one of SMOOTHINGS; settle_s: how long it takes (smoothing.py); None: its own default.
        speed: how much sooner the one-euro filter follows large jumps.
    home_after_s: after this time without music the smooth values glide to `home` (valence, arousal); None: they hold.
        glide_s: how long that takes.
    """

    # Keys that a file may have, which loading replaces.
    FILE_KEYS: ClassVar[tuple[str, ...]] = ("profile",)

    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=LARGEST_PORT)] = DEFAULT_PORT
    transport: Annotated[str, one_of(*TRANSPORTS)] = "udp"
    ttl: Annotated[int, Meta(ge=0, le=255)] = 1
    interface: Text | None = None
    prefix: _Prefix = "/mer"
    send: tuple[str, ...] = ("*",)
    bundle: bool = True
    rate_hz: Annotated[float, Meta(ge=1, le=120)] = 30.0
    on_change: bool = False
    smoothing: Annotated[str, one_of(*SMOOTHINGS)] = "spring"
    settle_s: Annotated[float, Meta(ge=0.05, le=60)] | None = None
    speed: Annotated[float, Meta(ge=0, le=10)] = 1.0
    home_after_s: Annotated[float, Meta(ge=1, le=3600)] | None = None
    home: Annotated[tuple[_Unit, _Unit], Meta(description="valence and arousal, two numbers from -1 to 1")] = (0.0, 0.0)
    glide_s: Annotated[float, Meta(ge=0.05, le=600)] = 3.0
    map: Annotated[
        tuple[MappedValue, ...],
        Meta(max_length=MAX_MAPPED, description=f"at most {MAX_MAPPED} tables, each headed [[osc.targets.map]]"),
    ] = ()

    def __post_init__(self) -> None:
        if not is_host(self.host):
            raise wrong("host", "a name, or an address without brackets and port", self.host)
        for pattern in self.send:
            if not matching(pattern):
                raise wrong("send", "names of the address space without '/mer/', such as 'smooth/*'", pattern)
        many = self.transport in ("multicast", "broadcast")
        if self.interface is not None and not many:
            raise wrong("interface", f"none with transport {self.transport!r}", self.interface)
        host, interface = in_numbers(self.host), in_numbers(self.interface or "")
        if host is None:
            return
        if self.transport == "multicast" and not host.is_multicast:
            raise wrong("host", "a multicast group, such as 239.1.2.3", self.host)
        if self.transport == "broadcast" and host.version == 6:
            raise wrong("host", "an IPv4 broadcast address, since IPv6 has none", self.host)
        if many and host.version == 6 and interface is not None:
            raise wrong("interface", "a name such as 'eth0' with an IPv6 group", self.interface)


@dataclass(frozen=True, slots=True)
class OscSettings:
    """[osc]: targets: the receivers; empty: nothing is sent.

    delay_s: how much later everything is sent, to meet sound that the audience hears late.
    query: where the OSCQuery server listens, as parse_listen reads it; None: there is no server.
    """

    targets: Annotated[
        tuple[TargetSettings, ...],
        Meta(
            max_length=MAX_TARGETS,
            description=f"a list of at most {MAX_TARGETS}, each HOST:PORT in quotes or a table headed [[osc.targets]]",
        ),
    ] = (TargetSettings(),)
    delay_s: Annotated[float, Meta(ge=0, le=10)] = 0.0
    query: str | None = None

    def __post_init__(self) -> None:
        _check_listen("query", self.query)


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """[control]: listen: where OSC commands are received, as parse_listen reads it; None: nowhere."""

    listen: str | None = None

    def __post_init__(self) -> None:
        _check_listen("listen", self.listen)
