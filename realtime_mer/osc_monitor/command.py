"""`realtime-mer osc-monitor`: what arrives at a port, from whom, how often and how evenly; what to look at first when a
desk stays dark.

A thread of its own receives and takes the times, so that drawing does not show as jitter; the main thread shows what
came of it, as a table on a terminal, otherwise a line for each message.
"""

from __future__ import annotations

import contextlib
import math
import queue
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from realtime_mer.osc.messages import PacketError, read_packet
from realtime_mer.osc_monitor.receiving import Listener, Where
from realtime_mer.osc_monitor.traffic import MOST_ADDRESSES, WINDOW_S, Picture, Row, Timing, Traffic, line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

REFRESH_S = 0.2

_MOST_WAITING_LINES = 10_000
_HINTS_AFTER_S = 5.0
_JOIN_TIMEOUT_S = 0.9
_ADDRESS, _VALUES = "address", "values"
_COLUMNS = ("count", "Hz", "jitter", "gap", "age s")
# Where the terminal is narrow; each has so many cells, and what is left for text is at least so much.
_FIRST_TO_GO = ("gap", "jitter", "count", "age s", "Hz")
_COLUMN_CELLS, _LEAST_TEXT_CELLS, _LEAST_VALUE_CELLS = 7, 28, 16
_LEGEND = "jitter: the intervals' standard deviation, gap: the longest, ms"
_LINES_AROUND_ROWS = 7
_MOST_SHOWN_SENDERS = 5
_SUMMARY_CELLS = 120


class Monitor:
    """What was received, for the thread that shows it. keep_lines: also a line for each message."""

    def __init__(self, start_s: float, *, keep_lines: bool) -> None:
        self._start_s = start_s
        self._traffic = Traffic(start_s)
        self._lock = threading.Lock()
        self._keep_lines = keep_lines
        self._lines: queue.Queue[str] = queue.Queue(_MOST_WAITING_LINES)
        self.lines_left_out = 0

    def packet(self, time_s: float, sender: str, datagram: bytes) -> None:
        try:
            messages = read_packet(datagram)
        except PacketError as error:
            self.refused(time_s, sender, str(error))
            return
        with self._lock:
            self._traffic.heard(time_s, sender, messages)
        if self._keep_lines:
            for message in messages:
                self._put(line(time_s - self._start_s, sender, message))

    def refused(self, time_s: float, sender: str, reason: str) -> None:
        with self._lock:
            self._traffic.refused(time_s, sender, reason)
        if self._keep_lines:
            self._put(f"{time_s - self._start_s:.3f} {sender} malformed: {reason}")

    def dropped(self, n: int) -> None:
        with self._lock:
            self._traffic.dropped(n)

    def picture(self, first: int = 0, most: int = MOST_ADDRESSES) -> Picture:
        """How things are now."""
        with self._lock:
            return self._traffic.picture(time.monotonic(), first, most)

    def lines(self, timeout_s: float) -> list[str]:
        """The lines that have not been taken yet; waits for one, but no longer than this."""
        try:
            taken = [self._lines.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        with contextlib.suppress(queue.Empty):
            while len(taken) < _MOST_WAITING_LINES:
                taken.append(self._lines.get_nowait())
        return taken

    def _put(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self.lines_left_out += 1


def run(host: str, port: int, *, multicast: str | None, tcp: bool, plain: bool, seconds: float | None) -> None:
    """`realtime-mer osc-monitor`: shows what arrives until Ctrl-C, the key q, or for so many seconds.

    host, port: where to listen. multicast: a group to join, on the network that has the address `host`, or on all of
    them where that is loopback or 0.0.0.0. tcp: take connections with SLIP frames instead of UDP. plain: lines, even
    where a table could be shown.
    Raises OscError where that cannot be listened on, OutputError where the output cannot be written, and
    BrokenPipeError where nobody reads it any more.
    """
    from realtime_mer.endings import ending_by_signal
    from realtime_mer.terminal.view import screen_console

    where = Where(host, port, multicast, tcp)
    console = None if plain else screen_console(sys.stdout)
    with contextlib.closing(Listener(where)) as listener, ending_by_signal() as stop:
        monitor = Monitor(time.monotonic(), keep_lines=console is None)
        failures: list[BaseException] = []

        def receive() -> None:
            try:
                listener.listen(monitor)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the main thread has to say it
                failures.append(error)
                stop.set()

        receiving = threading.Thread(target=receive, name="osc monitor", daemon=True)
        receiving.start()
        end_s = math.inf if seconds is None else time.monotonic() + seconds
        try:
            if console is None:
                _show_lines(monitor, where, stop, end_s)
            else:
                _show_table(console, monitor, where, stop, end_s)
            width = shutil.get_terminal_size((_SUMMARY_CELLS, 24)).columns
            _write(sys.stdout, summary(monitor.picture(), where, monitor.lines_left_out, width=width))
        except BrokenPipeError:
            raise
        except OSError as error:
            from realtime_mer.errors import OutputError

            raise OutputError(f"The output cannot be written: {error.strerror or error}.") from error
        finally:
            listener.stop()
            receiving.join(_JOIN_TIMEOUT_S)
        if failures:
            raise failures[0]


def _show_lines(monitor: Monitor, where: Where, stop: threading.Event, end_s: float) -> None:
    """A line for each message, until it is to stop or end_s is reached. Raises OSError."""
    _write(sys.stderr, [f"realtime-mer: listening on {where}; Ctrl-C ends it"])
    hints_s: float | None = time.monotonic() + _HINTS_AFTER_S
    while not stop.is_set() and (now_s := time.monotonic()) < end_s:
        _write(sys.stdout, monitor.lines(min(REFRESH_S, end_s - now_s)))
        if hints_s is not None and now_s >= hints_s:
            hints_s = None
            picture = monitor.picture(most=0)
            if not picture.packets:
                _write(sys.stderr, [f"realtime-mer: {text}" for text in _nothing_yet(picture, where)])
    _write(sys.stdout, [*monitor.lines(0), ""])


def _show_table(console: Console, monitor: Monitor, where: Where, stop: threading.Event, end_s: float) -> None:
    """The table over the whole terminal, until the key q, it is to stop or end_s is reached. Raises OSError."""
    from rich.control import Control
    from rich.screen import Screen

    from realtime_mer.terminal.keys import Keys
    from realtime_mer.terminal.view import stderr_held_back

    first = 0
    with Keys() as keys, stderr_held_back(), console.screen():
        while True:
            width, height = console.size
            n_rows = _table_rows(height)
            picture = monitor.picture(first, n_rows)
            view = render(picture, where, width=width, height=height, encoding=console.encoding)
            # One write for both. Every cell is drawn each time: a library may have written over the screen.
            with console:
                console.control(Control.home())
                console.print(Screen(view), end="")
            while (key := keys.poll()) is not None:
                if key in "qQ":
                    return
                if key == " ":
                    first = first + n_rows if first + n_rows < picture.n_addresses else 0
            if stop.wait(max(min(REFRESH_S, end_s - time.monotonic()), 0)) or time.monotonic() >= end_s:
                return


def _table_rows(height: int) -> int:
    """How many addresses a screen of so many lines shows."""
    return max(height - _LINES_AROUND_ROWS, 1)


def render(picture: Picture, where: Where, *, width: int, height: int, encoding: str = "utf-8") -> Text:
    """The whole screen, at most `height` lines, none longer than `width` cells.

    encoding: the terminal's; what it cannot say becomes a question mark.
    """
    from rich.cells import cell_len
    from rich.text import Text

    from realtime_mer.terminal.view import plain

    def line(text: str, style: str = "") -> Text:
        return Text(_fit(plain(text, encoding), width), style=style)

    clock = str(timedelta(seconds=int(picture.time_s)))
    title = Text().append(" LISTENING ", style="bold green" if picture.packets else "bold yellow")
    room = max(width - title.cell_len - len(clock) - 2, 0)
    name = _fit(plain(str(where), encoding), room)
    lines = [title.append(f" {name}{' ' * (room - cell_len(name))} {clock}")]
    lines.append(line(", ".join(_counts(picture)), "bold yellow" if _is_troubled(picture) else ""))
    lines.append(line(_senders(picture)))
    lines.append(line(_refusal(picture), "bold yellow"))
    if not picture.packets:
        hints = _nothing_yet(picture, where)
        rows = [row for hint in hints for row in textwrap.wrap(hint, max(width, 1), break_on_hyphens=False)]
        below = ["q quit"]
    else:
        timings = [row.recent for row in picture.rows]
        rows = table(picture.rows, timings, _COLUMNS, width, encoding)
        pages = f"   space more ({picture.first + 1} to {picture.first + len(picture.rows)} of {picture.n_addresses})"
        below = [
            f"{_LEGEND}; last {WINDOW_S:g} s",
            "q quit" + (pages if len(picture.rows) < picture.n_addresses else ""),
        ]
    rows = rows[: max(height - len(lines) - len(below), 0)]
    for i, row in enumerate(rows):
        is_old = 0 < i <= len(picture.rows) and picture.rows[i - 1].age_s > WINDOW_S
        lines.append(line(row, "bold" if i == 0 else "dim" if is_old else ""))
    lines += [Text()] * (height - len(lines) - len(below))
    lines += [line(text, "dim") for text in below]
    for made in lines:
        made.truncate(width)
    return Text("\n", no_wrap=True, overflow="crop", end="").join(lines[:height])


def summary(picture: Picture, where: Where, lines_left_out: int, *, width: int) -> list[str]:
    """What there is to say at the end, with the timing of the whole time."""
    if not picture.packets:
        return [text for text in (*_nothing_yet(picture, where), _refusal(picture)) if text]
    told = [f"{picture.time_s:.1f} s on {where}: {', '.join(_counts(picture))}", _senders(picture), _refusal(picture)]
    if lines_left_out:
        told.append(f"{_n(lines_left_out, 'line')} left out above: the output was read too slowly")
    timings = [row.whole for row in picture.rows]
    columns = tuple(column for column in _COLUMNS if column != "age s")
    return [*(text for text in told if text), "", *table(picture.rows, timings, columns, width), f"({_LEGEND})"]


def table(
    rows: Sequence[Row], timings: Sequence[Timing], columns: Sequence[str], width: int, encoding: str = "utf-8"
) -> list[str]:
    """A line of words over the columns, and one for each row, none longer than `width` cells."""
    from realtime_mer.terminal.view import plain

    shown = list(columns)
    for column in _FIRST_TO_GO:
        if width - _COLUMN_CELLS * len(shown) < _LEAST_TEXT_CELLS and column in shown:
            shown.remove(column)
    room = max(width - _COLUMN_CELLS * len(shown), 0)
    # The address in full, if that leaves something for the values.
    longest = max((len(row.address) for row in rows), default=0)
    address_cells = min(max(longest, len(_ADDRESS)), max(room - _LEAST_VALUE_CELLS, room // 2))
    made = []
    for name, values, cells in (
        (_ADDRESS, _VALUES, {column: column for column in shown}),
        *((row.address, row.content, _cells(row, timing)) for row, timing in zip(rows, timings, strict=True)),
    ):
        # Of an address that is too long, the end says most.
        address = name if len(name) <= address_cells else f"..{name[len(name) - max(address_cells - 2, 0) :]}"
        numbers = "".join(cells[column].rjust(_COLUMN_CELLS) for column in shown)
        made.append(_fit(f"{address:{address_cells}}{numbers}  {plain(values, encoding)}", width).rstrip())
    return made


def _cells(row: Row, timing: Timing) -> dict[str, str]:
    return {
        "count": _number(row.count, 0),
        "Hz": _number(timing.rate_hz, 2),
        "jitter": _number(timing.jitter_ms, 1),
        "gap": _number(timing.gap_ms, 1),
        "age s": _number(row.age_s, 1),
    }


def _number(value: float | None, decimals: int) -> str:
    """With fewer decimals where it would not fit into its column."""
    if value is None:
        return "-"
    forms = (*(f"{value:.{n}f}" for n in range(decimals, -1, -1)), f"{value:.0e}")
    return next((form for form in forms if len(form) < _COLUMN_CELLS), forms[-1])


def _counts(picture: Picture) -> list[str]:
    counts = [_n(picture.packets, "packet"), _n(picture.messages, "message")]
    if picture.malformed:
        counts.append(f"{picture.malformed} malformed")
    if picture.dropped:
        counts.append(f"{picture.dropped} dropped here, too many at once")
    if picture.others:
        counts.append(f"{_n(picture.others, 'message')} of more than {MOST_ADDRESSES} addresses not shown")
    return counts


def _is_troubled(picture: Picture) -> bool:
    return picture.malformed + picture.dropped + picture.others > 0


def _senders(picture: Picture) -> str:
    if not picture.senders:
        return ""
    shown = ", ".join(f"{sender} ({packets})" for sender, packets in picture.senders[:_MOST_SHOWN_SENDERS])
    more = picture.n_senders - len(picture.senders[:_MOST_SHOWN_SENDERS])
    return f"from {shown}" + (f" and {more} more" if more else "")


def _refusal(picture: Picture) -> str:
    refusal = picture.refusal
    if refusal is None:
        return ""
    return f"malformed, {refusal.age_s:.0f} s ago, from {refusal.sender}: {refusal.reason}"


def _nothing_yet(picture: Picture, where: Where) -> list[str]:
    what = f"nothing but what is malformed ({picture.malformed})" if picture.malformed else "nothing"
    return [f"{what} has arrived yet on {where}", *where.hints()]


def _n(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _fit(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, max(width - 2, 0)) + ".."[:width]


def _write(stream: TextIO | None, lines: Sequence[str]) -> None:
    """Raises OSError. Where there is no stream, nobody wants to know."""
    from realtime_mer.terminal.view import plain

    if stream is not None and lines:
        stream.write("".join(f"{plain(text, stream.encoding)}\n" for text in lines))
        stream.flush()
