"""The control port: takes OSC commands over UDP, and answers each to its sender."""

from __future__ import annotations

import contextlib
import math
import threading
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

# Limits of a packet, of a text in it, and of an answer.
MAX_BYTES = 8192
MAX_MESSAGES = 64
MAX_TEXT = 500
MAX_ANSWER = 200
_MAX_NAME = 80
_MAX_REASON = 120
_LARGEST_INT = 2**31 - 1

# How many small packets are processed each second. A longer one takes as long as several of this many bytes.
_RATE_HZ = 200.0
_SMALL_BYTES = 128
# Some 80 small packets, which are processed within half a second, so no command waits for longer.
_BUFFER_BYTES = 2**15
# The thread notices within this time that it should end.
_LOOK_S = 0.1
_JOIN_TIMEOUT_S = 0.3

_COMMANDS = {command.name: command for command in COMMANDS}
_WORDS = {"f": "a number", "i": "a whole number", "s": "a text"}
# OSC's types of numbers: float and double, int of 32 and 64 bits, true and false as 1 and 0.
_NUMBERS = "fdihTF"


@dataclass(frozen=True, slots=True)
class Order:
    """A command to carry out. name: one of space.COMMANDS. values: of its types, at least all that are required."""

    name: str
    values: Values


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is not a command. name: the address below /mer/control/, None if it is not below that."""

    name: str | None
    reason: str


def read_commands(datagram: bytes) -> list[Order | Refusal | None]:
    """The result for each message of a packet; None if a button was released, which is no command.

    A number may be of any OSC type; an Order has a finite float for f and an int for i, so a desk that only has floats
    can send whole ones. A command without values also takes the one number that a button sends: above 0 it is carried
    out, at 0 nothing happens. Texts are printable, and have MAX_TEXT characters at most.
    Raises PacketError if the packet is malformed, too large, or has more than MAX_MESSAGES messages.
    """
    messages = read_packet(datagram, MAX_BYTES)
    if len(messages) > MAX_MESSAGES:
        raise PacketError(f"Expected at most {MAX_MESSAGES} messages, got {len(messages)}.")
    return [_read_message(message) for message in messages]


class ControlServer:
    """Takes commands at a UDP port, in a thread of its own, and answers each.

    host: an address or a name of this computer; of a name with both kinds of address, the IPv4 one is used. port: 0
        takes a free one.
    carry_out: called by that thread with each command's name and values. It must not wait, and calls the answer, now or
        later, from any thread. If it raises, that becomes an error answer.
    report: gets each answer too (carried out?, the command's name, text), in the thread that answers. It must neither
        wait nor raise.

    An answer is printable ASCII of at most MAX_ANSWER characters. It goes to the address and port that the command came
    from, as a bundle with /mer/status/ack or /mer/status/error. Many desks listen at another port, or not at all.

    Packets that are malformed, too large, or not below /mer/control/ are counted and ignored; unknown commands below
    it are counted and answered. At most 200 small packets a second are processed; the rest waits in the system's
    buffer, which drops what it cannot hold, commands among them.

    Raises OscError if the port cannot be opened.
    """

    def __init__(
        self,
        host: str,
        port: int,
        carry_out: Callable[[str, Values, Answer], None],
        report: Callable[[bool, str, str], None],
    ) -> None:
        self._carry_out = carry_out
        self._report = report
        self._socket = open_port(
            host,
            port,
            failure=f"Commands cannot be taken at {address_text(host, port)}",
            if_taken="Give another port, or end that program; it may be another realtime-mer.",
            buffer_bytes=_BUFFER_BYTES,
        )
        self._datagrams = Datagrams(self._socket)
        # As bound: the port may have been 0.
        self.host: str
        self.port: int
        self.host, self.port = self._socket.getsockname()[:2]
        # Only the thread changes these.
        self._taken = 0
        self._ignored = 0
        self._last_ignored = ""
        # Any thread may send an answer through the socket, which the server's thread closes.
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="control port", daemon=True)
        self._thread.start()

    @property
    def ignored(self) -> int:
        """Packets and messages that were not commands, and packets that the system dropped (Linux)."""
        return self._ignored

    def status(self) -> ControlStatus:
        """For any thread."""
        return ControlStatus(address_text(self.host, self.port), self._taken, self._ignored, self._last_ignored)

    def close(self) -> None:
        """Takes no more commands; later answers are reported, but not sent. May be called twice."""
        self._closing.set()
        self._thread.join(_JOIN_TIMEOUT_S)

    def _serve(self) -> None:
        """The thread."""
        self._socket.settimeout(_LOOK_S)
        while not self._closing.is_set():
            self._closing.wait(self._take_packet() / _RATE_HZ)
        with self._lock:
            self._socket.close()

    def _take_packet(self) -> float:
        """Processes a packet. Returns how many small packets take as long."""
        try:
            datagram, sender, n_dropped = self._datagrams.receive()
        except TimeoutError:
            return 0
        except OSError:
            # A damaged packet, or on Windows an answer that was returned.
            return 1
        if n_dropped:
            self._ignore(n_dropped, "more packets than are processed", sender)
        try:
            results = read_commands(datagram)
        except PacketError as error:
            self._ignore(1, str(error).rstrip("."), sender)
            results = [None]
        if not results:
            self._ignore(1, "a bundle without messages", sender)
        for result in results:
            if isinstance(result, Order):
                self._obey(result, sender)
            elif isinstance(result, Refusal):
                where = "" if result.name is None else f"{CONTROL}{result.name}: "
                self._ignore(1, f"{where}{result.reason}", sender)
                if result.name is not None:
                    self._answer(False, result.name, result.reason, sender)
        # A packet that is too large is not read.
        n_bytes = len(datagram) if len(datagram) <= MAX_BYTES else 0
        return max(1, len(results), n_bytes / _SMALL_BYTES)

    def _ignore(self, n: int, reason: str, sender: Any) -> None:
        self._last_ignored = _plain(f"{reason}; from {sender_text(sender)}", _MAX_REASON)
        self._ignored += n

    def _obey(self, order: Order, sender: Any) -> None:
        self._taken += 1
        unanswered = threading.Lock()

        def answer(carried_out: bool, text: str) -> None:
            if unanswered.acquire(blocking=False):
                self._answer(carried_out, order.name, text, sender)

        try:
            self._carry_out(order.name, order.values, answer)
        except Exception as error:  # noqa: BLE001 - the next command must still be processed
            answer(False, f"this program failed: {type(error).__name__}: {error}")

    def _answer(self, carried_out: bool, name: str, text: str, sender: Any) -> None:
        name, text = _plain(name, _MAX_NAME), _plain(text, MAX_ANSWER)
        reply = packet([Message(_ACK if carried_out else _ERROR, "ss", (name, text))])
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendto(reply, sender)
        self._report(carried_out, name, text)


def _read_message(message: Message) -> Order | Refusal | None:
    if not message.address.startswith(CONTROL):
        return Refusal(None, f"{message.address} is not below {CONTROL}")
    name = message.address.removeprefix(CONTROL)
    command = _COMMANDS.get(name)
    if command is None:
        return Refusal(name, f"unknown command; there are {', '.join(_COMMANDS)}")
    try:
        if command.types or len(message.types) != 1 or message.types not in _NUMBERS + "IN":
            return Order(name, _values(command, message))
        # A button. OSCQuery clients send an impulse, or nil.
        number = 1.0 if message.types in "IN" else _number(message.values[0])
        if number < 0:
            raise ValueError(f"{number:g} is not what a button sends")
        return Order(name, ()) if number > 0 else None
    except ValueError as error:
        return Refusal(name, f"{error}; expected: {_expected(command)}")


def _values(command: Command, message: Message) -> Values:
    """Raises ValueError if they are not the command's."""
    expected = command.types + command.optional
    if not len(command.types) <= len(message.types) <= len(expected):
        raise ValueError(_got(message))
    return tuple(
        _value(kind, letter, value, message)
        for kind, letter, value in zip(expected, message.types, message.values, strict=False)
    )


def _value(expected: str, letter: str, value: object, message: Message) -> float | int | str:
    if expected == "s":
        if letter != "s" or not isinstance(value, str):
            raise ValueError(_got(message))
        if len(value) > MAX_TEXT:
            raise ValueError(f"the text has {len(value)} characters, the limit is {MAX_TEXT}")
        if not value.isprintable():
            raise ValueError("the text has characters that cannot be printed")
        return value
    if letter not in _NUMBERS:
        raise ValueError(_got(message))
    number = _number(value)
    if expected == "f":
        return number
    if not number.is_integer() or abs(number) > _LARGEST_INT:
        raise ValueError(f"{number:g} is not a whole number of 32 bits")
    return int(number)


def _number(value: object) -> float:
    """Raises ValueError if it is not finite."""
    if not isinstance(value, float | int) or not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return float(value)


def _got(message: Message) -> str:
    return f"got values of the types {_plain(message.types, 12)}" if message.types else "got no value"


def _expected(command: Command) -> str:
    required = " and ".join(_WORDS[letter] for letter in command.types) or "no value"
    optional = " and ".join(_WORDS[letter] for letter in command.optional)
    return f"{required}, optionally followed by {optional}" if optional else required


def _plain(text: str, longest: int) -> str:
    """On one line, in printable ASCII, and no longer than this."""
    line = " ".join(text[: 4 * longest].split())
    plain = "".join(character if character.isascii() and character.isprintable() else "?" for character in line)
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."
