"""Hosts and ports as users write them."""

from __future__ import annotations

import ipaddress
import re

from realtime_mer.config.checks import ConfigError, shown
from realtime_mer.config.profiles import find_profile

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK = "127.0.0.1"
LARGEST_PORT = 65_535

_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_HOST = re.compile(r"[^\s\[\]:/@]+")
_PORT = re.compile(r"[0-9]{1,5}")


def address_text(host: str, port: int) -> str:
    """HOST:PORT, with an IPv6 address in brackets, as in `[::1]:9000`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_numbers(host: str) -> IPAddress | None:
    """The IP address; None for a name, and for text that is not a host."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_host(text: str) -> bool:
    """Whether this can be a name or an IP address, without brackets and port."""
    return _is_ipv6(text) or (_HOST.fullmatch(text) is not None and text.isprintable())


def parse_target(text: str) -> dict[str, str | int]:
    """The keys of a target in `[PROFILE@]HOST:PORT`: profile, host and port, as far as they are given.

    With a profile, the port may be left out, as in `qlcplus@10.0.0.5`, or both, as in `qlcplus@`. An IPv6 address is in
    brackets, as in `[::1]:9000`. Raises ConfigError for anything else.
    """
    if "@" not in text and (name := find_profile(text)):
        raise ConfigError(f"{shown(text)} is a profile, not a target: write {name}@ or {name}@HOST:PORT.")
    profile, at, address = text.rpartition("@")
    try:
        if at and not profile:
            raise ValueError("there is no profile before the @")
        if at and not address:
            return {"profile": profile}
        host, port = _host_and_port(address)
        if not at:
            return {"host": host, "port": _port(port)}
        return {"profile": profile, "host": host} | ({} if port is None else {"port": _port(port)})
    except ValueError as error:
        raise ConfigError(
            "expected [PROFILE@]HOST:PORT, such as 127.0.0.1:9000, [::1]:9000 or qlcplus@127.0.0.1:7700, got "
            f"{shown(text)}: {error}."
        ) from error


def parse_listen(text: str) -> tuple[str, int]:
    """The host and port in `[HOST:]PORT`; without a host, it is LOOPBACK. Raises ConfigError for anything else."""
    try:
        host, port = (LOOPBACK, text) if _PORT.fullmatch(text) else _host_and_port(text)
        return host, _port(port)
    except ValueError as error:
        raise ConfigError(
            f"expected PORT or HOST:PORT, such as 9001, 0.0.0.0:9001 or [::1]:9001, got {shown(text)}: {error}."
        ) from error


def same_computer(target: str, listening: str) -> bool:
    """Whether what is sent to the host `target` arrives at this computer's address `listening`, as far as known."""
    to, at = (in_numbers(LOOPBACK if host.lower() == "localhost" else host) for host in (target, listening))
    if to is None or at is None:
        return target.lower() == listening.lower()
    return to == at or (at.is_unspecified and to.is_loopback) or (to.is_unspecified and at.is_loopback)


def _host_and_port(text: str) -> tuple[str, str | None]:
    """The port is None if there is none. Raises ValueError with the reason."""
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed.groups()
        if not _is_ipv6(host):
            raise ValueError(f"{shown(host)} is not an IPv6 address")
        return host, port
    host, port = text.rsplit(":", 1) if ":" in text else (text, None)
    if _is_ipv6(text) or _is_ipv6(host):
        raise ValueError("an IPv6 address goes in square brackets")
    if not host or (port is None and _PORT.fullmatch(host)):
        raise ValueError(f"there is no host (this computer is {LOOPBACK})")
    if not is_host(host):
        raise ValueError(f"{shown(host)} is not a host name or address")
    return host, port


def _port(text: str | None) -> int:
    """Raises ValueError with the reason."""
    if text is None:
        raise ValueError("there is no port")
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= LARGEST_PORT:
        raise ValueError(f"the port must be a whole number from 1 to {LARGEST_PORT}, not {shown(text)}")
    return int(text)


def _is_ipv6(text: str) -> bool:
    return isinstance(in_numbers(text), ipaddress.IPv6Address)
