"""`realtime-mer osc-monitor`: what arrives at a port, from where, how often and how evenly.

A thread of its own receives, so that drawing does not show as jitter. On a terminal there is a live table; otherwise
each message is printed as a line, and the table at the end.
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING

from realtime_mer.osc_monitor.receiving import Receiver, Where
from realtime_mer.osc_monitor.traffic import MOST_ADDRESSES, WINDOW_S, Traffic

if TYPE_CHECKING:
    from rich.console import Console, Group

_REFRESH_S = 0.2
_JOIN_TIMEOUT_S = 0.9
_MOST_SHOWN_SENDERS = 5
_SUMMARY_CELLS = 120


def run(host: str, port: int, *, multicast: str | None, tcp: bool, plain: bool, seconds: float | None) -> None:
    """Shows what arrives until Ctrl-C, or for so many seconds.

    host, port: where to listen. multicast: a group to join, on the network that has the address `host`, or on all
    networks if that is loopback or 0.0.0.0. tcp: TCP with SLIP frames instead of UDP. plain: lines, even on a terminal.
    Raises OscError if it cannot listen there, OutputError if the output cannot be written, and BrokenPipeError if the
    reader of the output has closed it.
    """
    from realtime_mer.endings import ending_by_signal
    from realtime_mer.errors import OutputError
    from realtime_mer.terminal.view import screen_console

    console = None if plain else screen_console(sys.stdout)
    with contextlib.closing(Monitor(Where(host, port, multicast, tcp), print_lines=console is None)) as monitor:
        try:
            with ending_by_signal() as stop:
                monitor.show(console, stop, seconds)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"The output cannot be written: {error.strerror or error}.") from error


class Monitor:
    """Receives from the start. Raises OscError if the port cannot be opened."""

    def __init__(self, where: Where, *, print_lines: bool) -> None:
        self.traffic = Traffic()
        self._where = where
        self._print_lines = print_lines
        self._start_s = time.monotonic()
        self._receiver = Receiver(where, self._take)
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._receive, name="osc monitor", daemon=True)
        self._thread.start()

    def show(self, console: Console | None, stop: threading.Event, seconds: float | None) -> None:
        """Shows the table, or prints it at the end. Raises OSError, and what the thread raised."""
        if console is None:
            print(f"realtime-mer: listening on {self._where}; Ctrl-C ends it", file=sys.stderr, flush=True)
            self._wait(stop, seconds)
            self.close()
            print(f"\n{self.summary()}", flush=True)
        else:
            from rich.live import Live

            with Live(get_renderable=self.view, console=console, refresh_per_second=1.0 / _REFRESH_S):
                self._wait(stop, seconds)
                self.close()

    def summary(self) -> str:
        """The view as text."""
        from rich.console import Console

        text = io.StringIO()
        width = shutil.get_terminal_size((_SUMMARY_CELLS, 24)).columns
        Console(file=text, width=width, color_system=None).print(self.view())
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def view(self) -> Group:
        """The counts, the senders, and a table of the addresses, or what to check if nothing has arrived."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        traffic, now_s = self.traffic, time.monotonic()
        with traffic.lock:
            counts = {
                "packets": traffic.packets,
                "messages": traffic.messages,
                "malformed": traffic.malformed,
                "dropped here, too many at once": self._receiver.dropped,
                f"messages of more than {MOST_ADDRESSES} addresses not shown": traffic.hidden,
            }
            lines = [f"{now_s - self._start_s:.0f} s on {self._where}"]
            lines[0] += "".join(f", {count} {what}" for what, count in counts.items() if count)
            senders = sorted(traffic.senders.items(), key=lambda entry: (-entry[1], entry[0]))
            if senders:
                shown = ", ".join(f"{sender} ({packets})" for sender, packets in senders[:_MOST_SHOWN_SENDERS])
                lines.append(f"from {shown}" + (" and more" if len(senders) > _MOST_SHOWN_SENDERS else ""))
            if traffic.last_malformed:
                lines.append(f"last malformed: {traffic.last_malformed}")
            if not traffic.packets:
                return Group(*map(Text, [*lines, "Nothing has arrived yet.", *self._where.hints()]))
            table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
            table.add_column("address", no_wrap=True)
            for name in ("count", "Hz", "jitter ms", "age s"):
                table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
            table.add_column("values", no_wrap=True)
            for address, arrivals in sorted(traffic.addresses.items()):
                rate_hz, jitter_ms = arrivals.timing()
                age_s = now_s - arrivals.times_s[-1]
                numbers = (f"{arrivals.count}", _number(rate_hz, 2), _number(jitter_ms, 1), f"{age_s:.1f}")
                style = "dim" if age_s > WINDOW_S else ""
                table.add_row(Text(address), *numbers, Text(arrivals.values), style=style)
        return Group(*map(Text, lines), table)

    def close(self) -> None:
        """Ends the thread. Raises what it raised, once."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join(_JOIN_TIMEOUT_S)
            self._receiver.close()
            if self._failure is not None:
                raise self._failure

    def _wait(self, stop: threading.Event, seconds: float | None) -> None:
        end_s = math.inf if seconds is None else self._start_s + seconds
        while self._failure is None and (left_s := end_s - time.monotonic()) > 0:
            if stop.wait(min(_REFRESH_S, left_s)):
                break

    def _receive(self) -> None:
        """The thread."""
        try:
            while not self._ended.is_set():
                self._receiver.receive(_REFRESH_S)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failure = error

    def _take(self, time_s: float, sender: str, received: bytes | str) -> None:
        texts = self.traffic.add(time_s, sender, received)
        if self._print_lines and texts:
            print(*(f"{time_s - self._start_s:.3f} {sender} {text}" for text in texts), sep="\n", flush=True)


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
