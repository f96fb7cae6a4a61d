"""OSC's targets and ports: whether names are known, and whether ports can be had. Nothing is sent."""

from __future__ import annotations

import errno
import ipaddress
from importlib.util import find_spec

from realtime_mer.config import LiveSettings, TargetSettings, address_text, parse_listen
from realtime_mer.doctor import Check, failed, ok, skipped, told, warning
from realtime_mer.osc import OscError
from realtime_mer.osc.ports import look_up, open_port

_QUERY_LIBRARIES = ("aiohttp", "ifaddr", "zeroconf")


def targets(settings: LiveSettings) -> list[Check]:
    """To whom OSC goes."""
    if not settings.osc.targets:
        return [skipped("OSC target", "the settings have none")]
    return [_target(target) for target in settings.osc.targets]


def listening(settings: LiveSettings) -> list[Check]:
    """Where commands are taken, and where the OSCQuery server listens."""
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
        cure = "Give the receiver's address in numbers, or look after the name server."
        return failed("OSC target", f"{where}: its name is not known ({error.strerror or error}).", cure)
    known = "" if address[0] == target.host else f", which is {address[0]}"
    if target.transport in ("broadcast", "multicast"):
        return ok("OSC target", f"{where}{known}")
    if not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        return ok("OSC target", f"{where}{known}; whether anybody listens there cannot be seen from here")
    holder = _who_has(target.host, target.port, tcp=tcp)
    if holder is None:
        cure = f"Start the receiver, or look at it with `realtime-mer osc-monitor {target.port}`."
        return warning("OSC target", f"{where}{known}: nobody listens on this port of this computer.", cure)
    return ok("OSC target", f"{where}{known}: {holder}")


def _who_has(host: str, port: int, *, tcp: bool) -> str | None:
    """Who has a port of this computer, in words; None where it is free. It is had for a moment, and given back."""
    try:
        open_port(host, port, failure="taken", if_taken="", tcp=tcp).close()
    except OscError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
            return "whether anybody listens there cannot be seen"
        return str(error).removeprefix("taken: ").strip().rstrip(".")
    return None


def _port(name: str, listen: str | None, option: str, *, tcp: bool) -> Check:
    if listen is None:
        return skipped(name, "the settings want none")
    missing = [library for library in _QUERY_LIBRARIES if find_spec(library) is None] if tcp else []
    if missing:
        return failed(name, f"It needs {', '.join(missing)}.", "pip install 'realtime-mer[query]'")
    host, port = parse_listen(listen)
    where = address_text(host, port)
    if_taken = f"Give another port with {option}, or end that program."
    try:
        open_port(host, port, failure=where, if_taken=if_taken, tcp=tcp).close()
    except OscError as error:
        return told(name, error)
    return ok(name, f"{where} is free")
