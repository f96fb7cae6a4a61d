"""`realtime-mer osc-monitor`: what arrives at a port, from where, how often and how evenly.

A thread of its own receives, so that drawing does not show as jitter. On a terminal the main thread shows a table;
otherwise each message is printed as a line.
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
    from rich.table import Table

REFRESH_S = 0.2
_JOIN_TIMEOUT_S = 0.9
_MOST_SHOWN_SENDERS = 5
_LINES_AROUND_ROWS = 6
_SUMMARY_CELLS = 120


def run(host: str, port: int, *, multicast: str | None, tcp: bool, plain: bool, seconds: float | None) -> None:
    """Shows what arrives until Ctrl-C, the key q, or for so many seconds.

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
                if console is None:
                    monitor.wait(stop, seconds)
                else:
                    monitor.show_table(console, stop, seconds)
            monitor.print_summary()
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

    def wait(self, stop: threading.Event, seconds: float | None) -> None:
        """Lets the thread print lines. Raises what it raised."""
        print(f"realtime-mer: listening on {self._where}; Ctrl-C ends it", file=sys.stderr, flush=True)
        while self._goes_on(stop, seconds):
            pass
        self.close()
        print(flush=True)

    def show_table(self, console: Console, stop: threading.Event, seconds: float | None) -> None:
        """Shows the table until the key q, too. Raises what the thread raised."""
        from rich.live import Live

        from realtime_mer.terminal.keys import Keys

        first = 0
        with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                n_rows = max(console.height - _LINES_AROUND_ROWS, 1)
                live.update(self.view(first, n_rows), refresh=True)
                while (key := keys.poll()) is not None:
                    if key in "qQ":
                        return
                    if key == " ":
                        first = first + n_rows if first + n_rows < len(self.traffic.addresses) else 0
                if not self._goes_on(stop, seconds):
                    return

    def view(self, first: int, n_rows: int) -> Group:
        """The screen, with n_rows addresses from the one at this index on."""
        from rich.console import Group
        from rich.text import Text

        with self.traffic.lock:
            n_addresses = len(self.traffic.addresses)
            head, table = self._head(), self._table(first, n_rows)
        title = Text(f"LISTENING on {self._where}, {self._time_s():.0f} s", style="bold")
        keys = f", space: more addresses (of {n_addresses})" if n_rows < n_addresses else ""
        body = table if n_addresses else Text("\n".join(self._nothing_yet()))
        return Group(title, *(Text(line, no_wrap=True) for line in head), body, Text(f"q: quit{keys}", style="dim"))

    def print_summary(self) -> None:
        """Raises OSError."""
        from rich.console import Console

        if not self.traffic.packets:
            lines = [*self._nothing_yet(), *self._head()[1:]]
        else:
            width = shutil.get_terminal_size((_SUMMARY_CELLS, 24)).columns
            with (console := Console(file=io.StringIO(), width=width, color_system=None)).capture() as captured:
                console.print(self._table(0, MOST_ADDRESSES))
            lines = [f"{self._time_s():.1f} s on {self._where}", *self._head(), "", captured.get().rstrip()]
        print("\n".join(lines))
        if sys.stdout is not None:
            sys.stdout.flush()

    def close(self) -> None:
        """Ends the thread. Raises what it raised, once."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join(_JOIN_TIMEOUT_S)
            self._receiver.close()
            if self._failure is not None:
                raise self._failure

    def _receive(self) -> None:
        """The thread."""
        try:
            while not self._ended.is_set():
                self._receiver.receive(REFRESH_S)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._failure = error

    def _take(self, time_s: float, sender: str, received: bytes | str) -> None:
        texts = self.traffic.add(time_s, sender, received)
        if self._print_lines and texts:
            print(*(f"{time_s - self._start_s:.3f} {sender} {text}" for text in texts), sep="\n", flush=True)

    def _goes_on(self, stop: threading.Event, seconds: float | None) -> bool:
        """Waits until the next refresh."""
        left_s = math.inf if seconds is None else max(seconds - self._time_s(), 0.0)
        return not stop.wait(min(REFRESH_S, left_s)) and left_s > 0 and self._failure is None

    def _time_s(self) -> float:
        return time.monotonic() - self._start_s

    def _table(self, first: int, n_rows: int) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("address", no_wrap=True)
        for name in ("count", "Hz", "jitter ms", "age s"):
            table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
        table.add_column("values", no_wrap=True)
        now_s = time.monotonic()
        for address, arrivals in sorted(self.traffic.addresses.items())[first : first + n_rows]:
            rate_hz, jitter_ms = arrivals.timing()
            age_s = now_s - arrivals.times_s[-1]
            numbers = (f"{arrivals.count}", _number(rate_hz, 2), _number(jitter_ms, 1), f"{age_s:.1f}")
            style = "dim" if age_s > WINDOW_S else ""
            table.add_row(Text(address), *numbers, Text(arrivals.values), style=style)
        return table

    def _head(self) -> list[str]:
        """The counts, the senders, and what was wrong."""
        traffic = self.traffic
        counts = {
            "packets": traffic.packets,
            "messages": traffic.messages,
            "malformed": traffic.malformed,
            "dropped here, too many at once": self._receiver.dropped,
            f"messages of more than {MOST_ADDRESSES} addresses not shown": traffic.hidden,
        }
        lines = [", ".join(f"{count} {what}" for what, count in counts.items() if count) or "0 packets"]
        senders = sorted(traffic.senders.items(), key=lambda entry: (-entry[1], entry[0]))
        if senders:
            shown = ", ".join(f"{sender} ({packets})" for sender, packets in senders[:_MOST_SHOWN_SENDERS])
            more = len(senders) - _MOST_SHOWN_SENDERS
            lines.append(f"from {shown}" + (f" and {more} more" if more > 0 else ""))
        if traffic.last_malformed:
            lines.append(f"last malformed: {traffic.last_malformed}")
        return lines

    def _nothing_yet(self) -> list[str]:
        what = "only malformed packets have" if self.traffic.malformed else "nothing has"
        return [f"{what} arrived yet on {self._where}", *self._where.hints()]


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
