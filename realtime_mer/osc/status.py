"""The state of everything that this program has on the network.

`str` of each is the text that people see; the window shows `title` and `notes` separately.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class TargetState(Enum):
    """Whether packets reach a target, as far as can be known."""

    OPENING = auto()
    """Its name is being looked up, or a connection is being made."""
    UP = auto()
    DOWN = auto()
    """Packets cannot be sent."""
    UNDELIVERED = auto()
    """Packets are sent, but the network reports that they do not arrive (UDP on Linux)."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """name: HOST:PORT, with the transport if it is not UDP. reason: of the state, or of the last failure if it is UP.

    n_failed: packets that could not be sent. n_late: predictions and other items that were not taken in time.
    """

    name: str
    state: TargetState
    reason: str = ""
    n_failed: int = 0
    n_late: int = 0

    @property
    def is_up(self) -> bool:
        return self.state is TargetState.UP

    @property
    def is_well(self) -> bool:
        return self.is_up and not self.n_failed and not self.n_late

    def without_counts(self) -> TargetStatus:
        """The present state alone, without past failures."""
        return TargetStatus(self.name, self.state, "" if self.is_up else self.reason)

    @property
    def title(self) -> str:
        return f"OSC to {self.name}"

    @property
    def notes(self) -> str:
        """What is wrong with it; empty if it is well."""
        notes = []
        if self.state is TargetState.OPENING:
            notes.append("not sending yet")
        elif self.state is TargetState.DOWN:
            notes.append(f"not sending: {self.reason}")
        elif self.state is TargetState.UNDELIVERED:
            notes.append(self.reason)
        if self.n_failed:
            last = f", the last time: {self.reason}" if self.is_up and self.reason else ""
            notes.append(f"{self.n_failed} {'packet' if self.n_failed == 1 else 'packets'} not sent{last}")
        if self.n_late:
            notes.append(f"{self.n_late} not taken in time")
        return "; ".join(notes)

    def __str__(self) -> str:
        return f"{self.name} ({self.notes})" if self.notes else self.name


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """The control port. ignored: packets and messages that were not commands; last_ignored: why the last one was."""

    address: str
    taken: int
    ignored: int
    last_ignored: str

    @property
    def is_well(self) -> bool:
        return not self.ignored

    @property
    def title(self) -> str:
        return f"commands on {self.address}"

    @property
    def notes(self) -> str:
        ignored = f", {self.ignored} ignored (the last: {self.last_ignored})" if self.ignored else ""
        return f"{self.taken} taken{ignored}"

    def __str__(self) -> str:
        return f"{self.title}: {self.notes}"


@dataclass(frozen=True, slots=True)
class QueryStatus:
    """The OSCQuery server. lost: messages that clients were too slow for. mdns_fault: why it is not announced."""

    address: str
    listening: int
    lost: int
    ignored: int
    mdns_fault: str

    @property
    def is_well(self) -> bool:
        return not self.mdns_fault

    @property
    def title(self) -> str:
        return f"OSCQuery on http://{self.address}"

    @property
    def notes(self) -> str:
        text = f"{self.listening} listening"
        text += f", {self.lost} messages lost" if self.lost else ""
        text += f", {self.ignored} requests ignored" if self.ignored else ""
        return f"{text} (not announced: {self.mdns_fault})" if self.mdns_fault else text

    def __str__(self) -> str:
        return f"{self.title}, {self.notes}"


NetworkStatus = TargetStatus | ControlStatus | QueryStatus
