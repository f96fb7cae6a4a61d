"""Hosts and ports as users write them: whom to send to, and where to listen."""

from __future__ import annotations

import ipaddress
import re

from realtime_mer.config.checks import ConfigError, shown
from realtime_mer.config.profiles import profile_names

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK = "127.0.0.1"
LARGEST_PORT = 65_535

_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_HOST = re.compile(r"[^\s\[\]:/@]+")
_PORT = re.compile(r"[0-9]{1,5}")


def address_text(host: str, port: int) -> str:
    """HOST:PORT; an IPv6 address stands in brackets, as in `[::1]:9000`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_numbers(host: str) -> IPAddress | None:
    """The address that stands there in numbers; None for a name, and for what is no host."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_host(text: str) -> bool:
    """Whether this can be a name, or an IPv4 or IPv6 address, without brackets or a port."""
    return _is_ipv6(text) or (_HOST.fullmatch(text) is not None and text.isprintable())


def parse_target(text: str) -> dict[str, str | int]:
    """What `[PROFILE@]HOST:PORT` says of a target: its host and port, and its profile where there is one.

    With a profile, the port may be left out, as in `qlcplus@10.0.0.5`, and so may both, as in `qlcplus@`: they are the
    profile's then. An IPv6 address stands in brackets, as in `[::1]:9000`. Raises ConfigError for anything else.
    """
    profile, at, address = text.rpartition("@")
    if text.lower() in profile_names():
        raise ConfigError(
            f"{shown(text)} is no OSC target, but a profile: write {text.lower()}@ for it as it is, or "
            f"{text.lower()}@HOST:PORT for another receiver."
        )
    try:
        if not at:
            host, port = _host_and_port(address)
            return {"host": host, "port": _port(port)}
        if not profile:
            raise ValueError("it names no profile before the @")
        if not address:
            return {"profile": profile}
        host, port = _host_and_port(address)
        return {"profile": profile, "host": host} | ({} if port is None else {"port": _port(port)})
    except ValueError as error:
        raise ConfigError(
            f"{shown(text)} is no OSC target: {error}. Expected [PROFILE@]HOST:PORT, as in 127.0.0.1:9000, [::1]:9000 "
            "or qlcplus@127.0.0.1:7700."
        ) from error


def parse_listen(text: str) -> tuple[str, int]:
    """The host and port that `[HOST:]PORT` names; without a host, it is this computer's loopback.

    Raises ConfigError for anything else.
    """
    try:
        if _PORT.fullmatch(text):
            return LOOPBACK, _port(text)
        host, port = _host_and_port(text)
        return host, _port(port)
    except ValueError as error:
        raise ConfigError(
            f"{shown(text)} is no place to listen at: {error}. Expected PORT or HOST:PORT, as in 9001, 0.0.0.0:9001 or "
            "[::1]:9001."
        ) from error


def _host_and_port(text: str) -> tuple[str, str | None]:
    """The port is None where the text names none. Raises ValueError saying what is wrong."""
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed.groups()
        if not _is_ipv6(host):
            raise ValueError(f"{shown(host)} is no IPv6 address")
        return host, port
    host, port = text.rsplit(":", 1) if ":" in text else (text, None)
    if _is_ipv6(text) or _is_ipv6(host):
        raise ValueError("an IPv6 address goes in square brackets")
    if not host or (port is None and _PORT.fullmatch(host)):
        raise ValueError(f"it names no host (this computer is {LOOPBACK})")
    if not is_host(host):
        raise ValueError(f"{shown(host)} is no host name or address")
    return host, port


def _port(text: str | None) -> int:
    """Raises ValueError saying what is wrong."""
    if text is None:
        raise ValueError("it names no port")
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= LARGEST_PORT:
        raise ValueError(f"the port must be a whole number from 1 to {LARGEST_PORT}, not {shown(text)}")
    return int(text)


def _is_ipv6(text: str) -> bool:
    return isinstance(in_numbers(text), ipaddress.IPv6Address)
