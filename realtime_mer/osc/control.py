"""The control port: OSC commands in over UDP, and what came of each back to whoever sent it."""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from realtime_mer.config.addresses import address_text
from realtime_mer.config.space import COMMANDS, Command, Values
from realtime_mer.osc.messages import Message, PacketError, packet, read_packet
from realtime_mer.osc.ports import Datagrams, open_port, sender_text
from realtime_mer.osc.status import ControlStatus
from realtime_mer.updates import Answer

CONTROL = "/mer/control/"
_ACK = "/mer/status/ack"
_ERROR = "/mer/status/error"

# What a packet and its strings may hold at most.
MAX_BYTES = 8192
MAX_MESSAGES = 64
MAX_TEXT = 500
# What an answer holds at most.
MAX_ANSWER = 200
_MAX_NAME = 80
_MAX_REASON = 120
_LARGEST_INT = 2**31 - 1

# How much is looked at each second, and at once after a quiet while; a packet's cost is in `_cost`.
_RATE_HZ = 200.0
_BURST = 64.0
_COST_BYTES = 128
# Some 40 small packets. What fills it is looked at within a second or two, and so no command waits for longer.
_BUFFER_BYTES = 2**14
_JOIN_TIMEOUT_S = 0.3

_COMMANDS = {command.name: command for command in COMMANDS}
_WORDS = {"f": "a number", "i": "a whole number", "s": "a text"}


@dataclass(frozen=True, slots=True)
class Order:
    """A command to carry out. name: of one in space.COMMANDS. values: of its types, all that are needed."""

    name: str
    values: Values


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is no command. name: what it has below /mer/control/, None where it was meant for others."""

    name: str | None
    why: str


def read_commands(datagram: bytes) -> list[Order | Refusal | None]:
    """What a packet asks for, message by message; None: nothing, since a button was let go.

    Whatever type of number was sent, an Order has a float for f and an int for i, all finite; desks that know floats
    only can send whole ones. A command that needs no values takes a button's single number (or OSC's true and false)
    too: it is carried out when that is above 0, and when it is 0 nothing happens. Texts are printable, and of MAX_TEXT
    characters at most.
    Raises PacketError where the packet is malformed, too large, or has more than MAX_MESSAGES messages.
    """
    if len(datagram) > MAX_BYTES:
        raise PacketError(f"The packet has {len(datagram)} bytes; at most {MAX_BYTES} are taken.")
    messages = read_packet(datagram)
    if len(messages) > MAX_MESSAGES:
        raise PacketError(f"The packet has {len(messages)} messages; at most {MAX_MESSAGES} are taken.")
    return [_read_message(message) for message in messages]


class ControlServer:
    """Takes commands at a UDP port, in a thread of its own, and answers each.

    host: an address of this computer, or a name of it; of a name with both kinds of address, the IPv4 one. port: 0
        takes a free one.
    carry_out: called by that thread with each command's name and values; it never waits, and has the answer called,
        now or later, by any thread. What it raises becomes an error answer.
    tell: takes each answer too (carried out?, the command's name, text), in the thread that answers. It neither waits
        nor raises.

    An answer, in printable ASCII and cut to MAX_ANSWER characters, goes back to the address and port that the command
    came from, as a bundle with /mer/status/ack or /mer/status/error. Whether it can be sent, or arrives, nobody counts:
    many desks listen at another port than they send from, or not at all.

    What is malformed, too large, or not meant for this program is counted and ignored; what is below /mer/control/ and
    is no command is counted and answered. In a flood some 200 small packets a second are looked at, one after the
    other; the rest waits in the system's buffer, which drops what it cannot hold, commands among them.

    Raises OscError where the port cannot be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        carry_out: Callable[[str, Values, Answer], None],
        tell: Callable[[bool, str, str], None],
    ) -> None:
        self._carry_out = carry_out
        self._tell = tell
        self._socket = open_port(
            host,
            port,
            failure=f"Commands cannot be taken at {address_text(host, port)}",
            if_taken="Give another port, or end that program; it may be another realtime-mer.",
            buffer_bytes=_BUFFER_BYTES,
        )
        self._datagrams = Datagrams(self._socket)
        # As it is bound: the port may have been 0.
        self.host: str
        self.port: int
        self.host, self.port = self._socket.getsockname()[:2]
        # Only the thread changes these.
        self._taken = 0
        self._ignored = 0
        self._last_ignored = ""
        # Answers of any thread leave through the socket, which the server's thread closes.
        self._lock = threading.Lock()
        self._closing = threading.Event()
        # Closing one end of the pair wakes the thread, which has the other.
        self._end, self._end_heard = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="control port", daemon=True)
        self._thread.start()

    @property
    def ignored(self) -> int:
        """How many packets and messages were no commands; with them, where the system tells (Linux), what it dropped.

        It tells with the next packet that it does not drop.
        """
        return self._ignored

    def status(self) -> ControlStatus:
        """For any thread."""
        return ControlStatus(address_text(self.host, self.port), self._taken, self._ignored, self._last_ignored)

    def close(self) -> None:
        """Takes no more commands; answers that are still to come are told, and not sent. Harmless when called twice."""
        self._closing.set()
        self._end.close()
        self._thread.join(_JOIN_TIMEOUT_S)

    def _serve(self) -> None:
        """The thread."""
        allowance = Allowance(time.monotonic())
        with contextlib.closing(self._end_heard), selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._end_heard, selectors.EVENT_READ)
            while not self._closing.is_set():
                selector.select()
                if not self._closing.is_set():
                    self._closing.wait(allowance.spend(self._take_packet(), time.monotonic()))
        with self._lock:
            self._socket.close()

    def _take_packet(self) -> int:
        """Takes a packet, and does what it asks for. Returns what that cost."""
        try:
            datagram, sender, n_dropped = self._datagrams.receive()
        except OSError:
            # A packet that was damaged, or on Windows the news that nobody took an answer.
            return 1
        if n_dropped:
            self._ignore(n_dropped, "more came than is looked at", sender)
        try:
            heard = read_commands(datagram)
        except PacketError as error:
            self._ignore(1, str(error).rstrip("."), sender)
            return _cost(datagram, 1)
        if not heard:
            self._ignore(1, "a bundle without messages", sender)
        for one in heard:
            if isinstance(one, Order):
                self._obey(one, sender)
            elif one is not None:
                self._ignore(1, one.why if one.name is None else f"{CONTROL}{one.name}: {one.why}", sender)
                if one.name is not None:
                    self._answer(False, one.name, one.why, sender)
        return _cost(datagram, len(heard))

    def _ignore(self, n: int, why: str, sender: Any) -> None:
        self._last_ignored = _plain(f"{why}; from {sender_text(sender)}", _MAX_REASON)
        self._ignored += n

    def _obey(self, order: Order, sender: Any) -> None:
        self._taken += 1
        unanswered = threading.Lock()

        def answer(carried_out: bool, text: str) -> None:
            if unanswered.acquire(blocking=False):
                self._answer(carried_out, order.name, text, sender)

        try:
            self._carry_out(order.name, order.values, answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next command is to be heard
            answer(False, f"this program failed: {type(error).__name__}: {error}")

    def _answer(self, carried_out: bool, name: str, text: str, sender: Any) -> None:
        name, text = _plain(name, _MAX_NAME), _plain(text, MAX_ANSWER)
        reply = packet([Message(_ACK if carried_out else _ERROR, "ss", (name, text))])
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendto(reply, sender)
        self._tell(carried_out, name, text)


class Allowance:
    """How much work is done for whoever sends packets: _BURST at once, and _RATE_HZ each second.

    now_s: of one clock, never falling.
    """

    def __init__(self, now_s: float) -> None:
        self._left = _BURST
        self._last_s = now_s

    def spend(self, cost: int, now_s: float) -> float:
        """Returns for how many seconds nothing more may be spent. A cost may be larger than what is left."""
        self._left = min(_BURST, self._left + _RATE_HZ * (now_s - self._last_s)) - cost
        self._last_s = now_s
        return max(-self._left / _RATE_HZ, 0.0)


def _cost(datagram: bytes, n_messages: int) -> int:
    """In small packets: what is long, or has many messages, takes as long to read as many of them."""
    # What is too large is not read.
    return 1 if len(datagram) > MAX_BYTES else max(1, n_messages, -(-len(datagram) // _COST_BYTES))


def _read_message(message: Message) -> Order | Refusal | None:
    if not message.address.startswith(CONTROL):
        return Refusal(None, f"{message.address} is no command's address")
    name = message.address.removeprefix(CONTROL)
    command = _COMMANDS.get(name)
    if command is None:
        return Refusal(name, f"no such command; there are {', '.join(_COMMANDS)}")
    try:
        pressed = _button(command, message)
        if pressed is None:
            return Order(name, _values(command, message))
    except ValueError as error:
        return Refusal(name, f"{error}; expected: {_expected(command)}")
    return Order(name, ()) if pressed else None


def _button(command: Command, message: Message) -> bool | None:
    """Whether a button was pressed (or let go); None where the message is not what a button sends."""
    if command.types or message.types not in ("f", "i", "T", "F", "I", "N"):
        return None
    # OSCQuery clients send an impulse, or nil.
    if message.types in ("I", "N"):
        return True
    (value,) = message.values
    number = _number(value)
    if number < 0:
        raise ValueError(f"{number:g} is not what a button sends")
    return number > 0


def _values(command: Command, message: Message) -> Values:
    """Raises ValueError where they are not the command's."""
    wanted = command.types + command.optional
    if not len(command.types) <= len(message.types) <= len(wanted):
        raise ValueError(f"{_came(message)} came")
    return tuple(
        _value(wish, came, value, message)
        for wish, came, value in zip(wanted, message.types, message.values, strict=False)
    )


def _value(wish: str, came: str, value: object, message: Message) -> float | int | str:
    if wish == "s":
        if came != "s" or not isinstance(value, str):
            raise ValueError(f"{_came(message)} came")
        if len(value) > MAX_TEXT:
            raise ValueError(f"the text has {len(value)} characters, at most {MAX_TEXT} are taken")
        if not value.isprintable():
            raise ValueError("the text has characters that cannot be printed")
        return value
    if came not in ("f", "i"):
        raise ValueError(f"{_came(message)} came")
    number = _number(value)
    if wish == "f":
        return number
    if not number.is_integer() or abs(number) > _LARGEST_INT:
        raise ValueError(f"{number:g} is no whole number of 32 bits")
    return int(number)


def _number(value: object) -> float:
    """Of 32 bits, all of which a float holds exactly. Raises ValueError where it is not finite."""
    if not isinstance(value, float | int) or not math.isfinite(value):
        raise ValueError(f"{value} is no number to work with")
    return float(value)


def _came(message: Message) -> str:
    return f"values of the types {_plain(message.types, 12)}" if message.types else "no value"


def _expected(command: Command) -> str:
    needed = " and ".join(_WORDS[letter] for letter in command.types) or "no value"
    optional = " and ".join(_WORDS[letter] for letter in command.optional)
    return f"{needed}, then perhaps {optional}" if optional else needed


def _plain(text: str, longest: int) -> str:
    """On one line, in printable ASCII, and no longer than this."""
    line = " ".join(text[: 4 * longest].split())
    plain = "".join(character if character.isascii() and character.isprintable() else "?" for character in line)
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."
