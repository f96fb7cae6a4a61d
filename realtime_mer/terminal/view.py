"""The live view as text: full-screen on a terminal, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from realtime_mer.moods import QUADRANT_WORDS
from realtime_mer.terminal.keys import Keys, in_foreground, terminal_fd
from realtime_mer.updates import Board, LevelState, SourceState, Status, Update

# A full screen takes about 5 ms of CPU time.
LINES_INTERVAL_S, SCREEN_INTERVAL_S = 0.1, 0.2
MEMORY_S = 60.0

_TRAIL_S = 10.0
# Where the level meter begins, dBFS: below what the silence gate lets through.
_METER_FLOOR_DB = -72.0
_MOST_DETAIL_ROWS = 4
# From this size on, the plane is beside the numbers instead of above them.
_WIDE_COLUMNS, _WIDE_ROWS = 72, 22
_NUMBERS_COLUMNS = 35
_SMALLEST_PLANE_ROWS, _SMALLEST_PLANE_COLUMNS = 7, 27
_LABEL_COLUMNS = 10
_HELD_BACK_LINES = 1000

_ALARM = "bold reverse red"
_SOURCE_STYLES = {
    SourceState.OPENING: "bold cyan",
    SourceState.RUNNING: "bold green",
    SourceState.PAUSED: "bold yellow",
    SourceState.LOST: _ALARM,
    SourceState.ENDED: "bold cyan",
}
_LEVEL_STYLES_AND_ADVICE = {
    LevelState.MUSIC: ("bold green", ""),
    LevelState.QUIET: ("bold yellow", "turn it up"),
    LevelState.CLIPPING: (_ALARM, "turn it down"),
    LevelState.SILENCE: ("bold cyan", "values held"),
}
_POINT, _HELD_POINT, _TRAIL = "●", "○", "·"
# For terminals without Unicode; rich draws its boxes in ASCII there by itself.
_TO_ASCII = str.maketrans("─│┼●○·█━…", "-|+@O.#=~")


class TerminalView:
    """Shows a board: `with TerminalView(board, …) as view`, then call `view.refresh()` about every SCREEN_INTERVAL_S.

    On a terminal it takes the whole screen and the keys, and gives both back at the end, also after an error. Text
    that is written to standard error meanwhile appears afterwards. Everywhere else (a file, a pipe, a dumb terminal, a
    background job) it writes a line for each prediction and each change of the source.

    quit_: called at the key q. toggle_pause: called at the space bar; None if the source cannot pause.
    osc: returns the OSC targets; their `str` is shown. stream: where to write; by default standard output.
    """

    def __init__(
        self,
        board: Board,
        *,
        quit_: Callable[[], None],
        toggle_pause: Callable[[], None] | None = None,
        osc: Callable[[], Sequence[object]] = tuple,
        stream: TextIO | None = None,
    ) -> None:
        self._board = board
        self._quit = quit_
        self._toggle_pause = toggle_pause
        self._osc = osc
        self._stream = sys.stdout if stream is None else stream
        self._memory: deque[Update] = deque()
        self._live: Live | None = None
        self._keys = Keys()
        self._written: tuple[SourceState | None, str, str] = None, "", ""
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        console = screen_console(self._stream)
        if console is not None:
            with contextlib.ExitStack() as opening:
                opening.enter_context(self._keys)
                opening.enter_context(stderr_held_back())
                live = Live(
                    console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
                )
                self._live = opening.enter_context(live)
                self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live = None
        self._open.close()

    def run(self, stop: threading.Event) -> None:
        """Shows the board until `stop` is set, and once more then. Raises what `refresh` raises."""
        with self:
            while not stop.wait(LINES_INTERVAL_S if self._live is None else SCREEN_INTERVAL_S):
                self.refresh()
            self.refresh()

    def refresh(self) -> None:
        """Shows the current state and handles the keys.

        Raises OSError if the output cannot be written; BrokenPipeError if its reader has closed it.
        """
        updates, status = self._board.take_updates(), self._board.latest_status
        if self._live is None:
            self._write_lines(status, updates)
            return
        self._memory.extend(updates)
        while self._memory and self._memory[0].time_s <= self._memory[-1].time_s - MEMORY_S:
            self._memory.popleft()
        self._live.update(Page(status, self._memory, self._osc(), self._key_help(status)), refresh=True)
        self._handle_keys()

    def _key_help(self, status: Status) -> str:
        if self._toggle_pause is None:
            return "q quit"
        return f"space {'go on' if status.state is SourceState.PAUSED else 'pause'}   q quit"

    def _handle_keys(self) -> None:
        while (key := self._keys.poll()) is not None:
            if key in "qQ":
                self._quit()
            elif key == " " and self._toggle_pause is not None:
                self._toggle_pause()

    def _write_lines(self, status: Status, updates: Sequence[Update]) -> None:
        lines = [update_line(update, status) for update in updates]
        state, detail, fault = self._written
        # The most likely order: a source that is lost or has ended gave these predictions before.
        if (status.state, status.detail) != (state, detail):
            begins = status.state in (SourceState.OPENING, SourceState.RUNNING)
            lines.insert(0 if begins else len(lines), source_line(status))
        if status.recording_fault and status.recording_fault != fault:
            lines.append(f"{status.time_s:.1f} s  recording incomplete: {status.recording_fault}")
        self._written = status.state, status.detail, status.recording_fault
        if self._stream is not None:
            for line in lines:
                self._stream.write(plain(line, self._stream.encoding) + "\n")
                self._stream.flush()


def update_line(update: Update, status: Status) -> str:
    """A prediction and the input's state as one line: `12.5 s  valence +0.123  arousal -0.301  music`."""
    state = LevelState.MUSIC if status.level is None else status.level.state
    label = f"{LevelState.SILENCE}, held" if update.held else str(state)
    valence, arousal = update.prediction.valence, update.prediction.arousal
    return f"{update.time_s:.1f} s  valence {valence:+.3f}  arousal {arousal:+.3f}  {label}"


def source_line(status: Status) -> str:
    """The source's state as one line: `12.5 s  source lost: USB Audio: It was unplugged.`"""
    detail = f": {status.detail}" if status.detail else ""
    return f"{status.time_s:.1f} s  source {status.state}: {status.source}{detail}"


@dataclass(frozen=True, slots=True)
class Page:
    """The full-screen view as a rich renderable, for any size and any encoding.

    updates: those of the last MEMORY_S seconds, oldest first. osc: the targets. keys: help on the keys.
    """

    status: Status
    updates: Sequence[Update]
    osc: Sequence[object]
    keys: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def n_rows(renderable: RenderableType) -> int:
            return len(console.render_lines(renderable, options.update(height=None)))

        width, height = options.max_width, options.height or console.height
        header = _header(self.status, options.encoding)
        numbers = _numbers(self.status, self.updates)
        footer = _footer(self.status, self.osc, self.keys, options.encoding)
        n_header = min(n_rows(header), 1 + _MOST_DETAIL_ROWS)
        plane = Layout(Panel(_Plane(self.updates), title="arousal +1", subtitle="-1", style="dim", padding=0), ratio=3)
        body = Layout()
        if width >= _WIDE_COLUMNS and height >= _WIDE_ROWS:
            body.split_row(plane, Layout(Padding(numbers, (0, 0, 0, 1)), ratio=2, minimum_size=_NUMBERS_COLUMNS))
        else:
            plane_rows = height - n_header - numbers.row_count - footer.row_count
            plane.visible = plane_rows >= _SMALLEST_PLANE_ROWS and width >= _SMALLEST_PLANE_COLUMNS
            body.split_column(plane, Layout(numbers, size=numbers.row_count if plane.visible else None))
        page = Layout()
        page.split_column(Layout(header, size=n_header), body, Layout(footer, size=footer.row_count))
        for segment in console.render(page, options):
            text = segment.text.translate(_TO_ASCII) if options.ascii_only else segment.text
            yield Segment(text, segment.style, segment.control)


@dataclass(frozen=True, slots=True)
class _Plane:
    """Valence to the right, arousal upwards, with the last prediction and its trail."""

    updates: Sequence[Update]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, rows = options.max_width, options.height or console.height

        def cell(valence: float, arousal: float) -> tuple[int, int]:
            return round((1 - arousal) / 2 * (rows - 1)), round((valence + 1) / 2 * (columns - 1))

        middle_row, middle_column = cell(0, 0)
        grid = [[" "] * columns for _ in range(rows)]
        for cells in grid:
            cells[middle_column] = "│"
        grid[middle_row] = ["┼" if column == middle_column else "─" for column in range(columns)]
        present = self.updates[-1] if self.updates else None
        for update in self.updates:
            if present is not None and update.time_s > present.time_s - _TRAIL_S:
                row, column = cell(update.prediction.valence, update.prediction.arousal)
                grid[row][column] = _TRAIL
        label = " valence +1"
        grid[middle_row][:2], grid[middle_row][-len(label) :] = "-1", label
        words = [", ".join(pair) for pair in QUADRANT_WORDS.values()]
        if max(map(len, words)) >= middle_column:
            words = [pair[0] for pair in QUADRANT_WORDS.values()]
        for (valence, arousal), word in zip(QUADRANT_WORDS, words, strict=True):
            column = 1 if valence < 0 else columns - 1 - len(word)
            grid[cell(valence, arousal)[0]][column : column + len(word)] = word
        if present is not None:
            row, column = cell(present.prediction.valence, present.prediction.arousal)
            grid[row][column] = _HELD_POINT if present.held else _POINT
        text = Text("\n".join("".join(cells) for cells in grid), no_wrap=True, overflow="crop")
        text.highlight_words(words, "not dim")
        text.highlight_words([_POINT, _HELD_POINT], "not dim bold cyan")
        yield text


@dataclass(frozen=True, slots=True)
class _Value:
    """A number in [-1, 1] with its sign, and a bar from the middle; empty without a value."""

    value: float | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        number = "" if self.value is None else f"{self.value:+.3f}"
        half = max((options.max_width - 8) // 2, 0)
        value = self.value or 0.0
        left, right = round(max(-value, 0.0) * half), round(max(value, 0.0) * half)
        yield Text.assemble(
            (f"{number:7}", "bold"),
            ("─" * (half - left), "dim"),
            ("█" * left, "cyan"),
            "│",
            ("█" * right, "cyan"),
            ("─" * (half - right), "dim"),
            no_wrap=True,
            overflow="crop",
        )


def _grid() -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(style="dim", width=_LABEL_COLUMNS, no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    return grid


def _header(status: Status, encoding: str) -> Group:
    """State, source and stream time; below, why the source is in this state."""
    title = Table.grid(padding=(0, 1, 0, 0), expand=True)
    title.add_column(no_wrap=True)
    title.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    title.add_column(no_wrap=True)
    title.add_row(
        Text(f" {status.state.upper()} ", _SOURCE_STYLES[status.state]),
        Text(plain(status.source, encoding)),
        str(timedelta(seconds=int(status.time_s))),
    )
    detail = plain(status.detail, encoding)
    return Group(title, *([Padding(Text(detail, "bold"), (0, 1))] if detail else []))


def _numbers(status: Status, updates: Sequence[Update]) -> Table:
    present = updates[-1] if updates else None
    grid = _grid()
    for name in ("valence", "arousal"):
        grid.add_row(name, _Value(None if present is None else getattr(present.prediction, name)))
    grid.add_row("", Text(_note(status, present), "bold cyan"))
    level = status.level if status.state is SourceState.RUNNING else None
    if level is None:
        grid.add_row("input", "no sound")
    else:
        style, advice = _LEVEL_STYLES_AND_ADVICE[level.state]
        grid.add_row("input", f"{level.rms_db:.1f} dBFS, peak {level.peak_db:.1f}")
        filled_db = min(max(level.rms_db - _METER_FLOOR_DB, 0.0), -_METER_FLOOR_DB)
        grid.add_row("", ProgressBar(-_METER_FLOOR_DB, filled_db, complete_style=style, finished_style=style))
        grid.add_row("", Text.assemble((f" {level.state.upper()} ", style), f" {advice}"))
    grid.add_row("gain", f"{status.gain_db:+.1f} dB")
    grid.add_row("latency", _latency(updates))
    counts = [
        ("dropped", status.dropped_blocks, f" blocks ({status.dropped_s:.1f} s)"),
        ("overflows", status.overflows, ""),
        ("losses", status.losses, f" ({status.lost_s:.1f} s in all)"),
    ]
    if status.replaced_samples:
        counts.append(("replaced", status.replaced_samples, " samples"))
    for label, count, more in counts:
        grid.add_row(label, Text(f"{count}{more}", "bold yellow" if count else ""))
    return grid


def _note(status: Status, present: Update | None) -> str:
    """Why the prediction is not that of the sound that plays now; empty if it is."""
    if present is None:
        return "no prediction yet"
    if status.state is SourceState.ENDED:
        return "last value"
    if status.state is not SourceState.RUNNING:
        return f"last value ({status.state})"
    return "held: silence" if present.held else ""


def _latency(updates: Sequence[Update]) -> str:
    """The last latency, and the median of those in `updates`."""
    latencies_s = [update.latency_s for update in updates if update.latency_s is not None]
    if not latencies_s:
        return "not live" if updates else "none yet"
    return f"{1000 * latencies_s[-1]:.0f} ms, median {1000 * statistics.median(latencies_s):.0f} ms"


def _footer(status: Status, osc: Sequence[object], keys: str, encoding: str) -> Table:
    recording = status.recording or "off"
    if status.recording_fault:
        recording = f"INCOMPLETE: {status.recording_fault} ({recording})"
    grid = _grid()
    grid.add_row("recording", Text(plain(recording, encoding), _ALARM if status.recording_fault else ""))
    grid.add_row("OSC to", Text(plain(", ".join(map(str, osc)) or "no target", encoding)))
    grid.add_row("keys", keys)
    return grid


def screen_console(stream: TextIO | None) -> Console | None:
    """A console for a full screen; None if the stream cannot show one."""
    fd = terminal_fd(stream)
    if fd is None or not in_foreground(fd):
        return None
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    return None if console.is_dumb_terminal or console.legacy_windows or not console.is_terminal else console


class _HeldBack(io.TextIOBase):
    """Keeps the last pieces of text that were written."""

    def __init__(self) -> None:
        self.pieces: deque[str] = deque(maxlen=_HELD_BACK_LINES)

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


@contextlib.contextmanager
def stderr_held_back() -> Iterator[None]:
    """If standard error is a terminal, text that is written to it inside the block appears after the block."""
    if terminal_fd(sys.stderr) is None:
        yield
        return
    held = _HeldBack()
    try:
        with contextlib.redirect_stderr(held):
            yield
    finally:
        sys.stderr.write("".join(held.pieces))
        sys.stderr.flush()


def plain(text: str, encoding: str | None) -> str:
    """The text as one line without control characters, in the characters of the encoding; the others become `?`."""
    printable = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    return printable.encode(encoding or "ascii", "replace").decode(encoding or "ascii")
