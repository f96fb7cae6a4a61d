"""OSC targets and ports: whether names can be resolved, and whether ports are free. Nothing is sent."""

from __future__ import annotations

import errno
import ipaddress
from importlib.util import find_spec

from realtime_mer.config import LiveSettings, TargetSettings, address_text, parse_listen
from realtime_mer.doctor import Check, failed, from_error, ok, skipped, warning
from realtime_mer.osc import OscError
from realtime_mer.osc.ports import look_up, open_port

_QUERY_LIBRARIES = ("aiohttp", "ifaddr", "zeroconf")


def targets(settings: LiveSettings) -> list[Check]:
    """The receivers of OSC."""
    if not settings.osc.targets:
        return [skipped("OSC target", "none in the settings")]
    return [_target(target) for target in settings.osc.targets]


def listening(settings: LiveSettings) -> list[Check]:
    """The ports for commands and for the OSCQuery server."""
    return [
        _port("control port", settings.control.listen, "--control", tcp=False),
        _port("OSCQuery port", settings.osc.query, "--osc-query", tcp=True),
    ]


def _target(target: TargetSettings) -> Check:
    tcp = target.transport == "tcp"
    where = address_text(target.host, target.port)
    if target.transport != "udp":
        where = f"{where} ({target.transport})"
    try:
        _family, address = look_up(target.host, target.port, tcp=tcp)[0]
    except OSError as error:
        cure = "Give the receiver's IP address, or check the name server."
        return failed("OSC target", f"{where}: its name cannot be resolved ({error.strerror or error}).", cure)
    known = "" if address[0] == target.host else f", which is {address[0]}"
    if target.transport in ("broadcast", "multicast"):
        return ok("OSC target", f"{where}{known}")
    if not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        return ok("OSC target", f"{where}{known}; from here it cannot be seen whether anything listens there")
    owner = _port_owner(target.host, target.port, tcp=tcp)
    if owner is None:
        cure = f"Start the receiver, or see what arrives with `realtime-mer osc-monitor {target.port}`."
        return warning("OSC target", f"{where}{known}: nothing listens on this port of this computer.", cure)
    return ok("OSC target", f"{where}{known}: {owner}")


def _port_owner(host: str, port: int, *, tcp: bool) -> str | None:
    """The program that has a port of this computer, in words; None if the port is free. It is opened for a moment."""
    try:
        open_port(host, port, failure="taken", if_taken="", tcp=tcp).close()
    except OscError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
            return "it cannot be seen whether anything listens there"
        return str(error).removeprefix("taken: ").strip().rstrip(".")
    return None


def _port(name: str, listen: str | None, option: str, *, tcp: bool) -> Check:
    if listen is None:
        return skipped(name, "off in the settings")
    missing = [library for library in _QUERY_LIBRARIES if find_spec(library) is None] if tcp else []
    if missing:
        return failed(name, f"It needs {', '.join(missing)}.", "pip install 'realtime-mer[query]'")
    host, port = parse_listen(listen)
    where = address_text(host, port)
    if_taken = f"Give another port with {option}, or end that program."
    try:
        open_port(host, port, failure=where, if_taken=if_taken, tcp=tcp).close()
    except OscError as error:
        return from_error(name, error)
    return ok(name, f"{where} is free")
