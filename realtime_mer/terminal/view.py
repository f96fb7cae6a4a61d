"""The live path as text: a full-screen view on a terminal, plain lines where the output goes elsewhere."""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.control import Control
from rich.screen import Screen
from rich.text import Text

from realtime_mer.moods import QUADRANT_WORDS
from realtime_mer.terminal.keys import Keys, in_foreground, terminal_fd
from realtime_mer.updates import Board, InputLevel, LevelState, SourceState, Status, Update

REFRESH_S = 0.1
MEMORY_S = 60.0

_TRAIL_S = 10.0
# Where the meter begins, dBFS: below what the silence gate lets through.
_METER_FLOOR_DB = -72.0
_DETAIL_ROWS, _MOST_DETAIL_ROWS = 2, 4
# From this size on, the plane stands beside the numbers.
_WIDE_COLUMNS, _WIDE_ROWS = 72, 22
_NUMBERS_COLUMNS = 35
_LARGEST_PLANE_ROWS, _SMALLEST_PLANE_ROWS, _SMALLEST_PLANE_COLUMNS = 25, 5, 25
_LABEL_COLUMNS = 11
_HELD_BACK_LINES = 1000

_ALARM = "bold reverse red"
_COUNTED = "bold yellow"
_SOURCE_STYLES = {
    SourceState.OPENING: "bold cyan",
    SourceState.RUNNING: "bold green",
    SourceState.PAUSED: "bold yellow",
    SourceState.LOST: _ALARM,
    SourceState.ENDED: "bold cyan",
}
_LEVEL_STYLES = {
    LevelState.MUSIC: "bold green",
    LevelState.QUIET: "bold yellow",
    LevelState.CLIPPING: _ALARM,
    LevelState.SILENCE: "bold cyan",
}
_LEVEL_ADVICE = {
    LevelState.MUSIC: "",
    LevelState.QUIET: "turn the input up",
    LevelState.CLIPPING: "turn the input down",
    LevelState.SILENCE: "the prediction holds",
}
# Left and right at the top, left and right at the bottom; the long words where there is room.
_QUADRANTS = tuple(", ".join(QUADRANT_WORDS[signs]) for signs in ((-1, 1), (1, 1), (-1, -1), (1, -1)))
_QUADRANTS_SHORT = tuple(words.partition(",")[0] for words in _QUADRANTS)


@dataclass(frozen=True, slots=True)
class _Glyphs:
    horizontal: str
    vertical: str
    cross: str
    corners: tuple[str, str, str, str]
    point: str
    held_point: str
    trail: str
    full: str
    peak: str
    ellipsis: str


_UNICODE = _Glyphs("─", "│", "┼", ("┌", "┐", "└", "┘"), "●", "○", "·", "█", "┃", "…")
_ASCII = _Glyphs("-", "|", "+", ("+", "+", "+", "+"), "@", "O", ".", "#", "|", "~")


class TerminalView:
    """Shows a board: `with TerminalView(board, …) as view`, then `view.refresh()` about every REFRESH_S.

    On a terminal it takes the whole screen and the keys, and gives both back at the end, whatever ends it; what is
    written to standard error meanwhile appears then. Elsewhere (a file, a pipe, a terminal that can do no more, or one
    that belongs to another program of the shell) it writes a line for each prediction and each change of source.

    quit_: called at the key q. toggle_pause: called at the space bar; None where the source cannot pause.
    osc: the OSC targets, for people. stream: where to write; standard output where None.
    """

    def __init__(
        self,
        board: Board,
        *,
        quit_: Callable[[], None],
        toggle_pause: Callable[[], None] | None = None,
        osc: Callable[[], Sequence[str]] = tuple,
        stream: TextIO | None = None,
    ) -> None:
        self._board = board
        self._quit = quit_
        self._toggle_pause = toggle_pause
        self._osc = osc
        self._stream = sys.stdout if stream is None else stream
        self._memory: deque[Update] = deque()
        self._console: Console | None = None
        self._keys = Keys()
        self._told: tuple[SourceState | None, str] = None, ""
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        console = screen_console(self._stream)
        if console is not None:
            with contextlib.ExitStack() as opening:
                opening.enter_context(self._keys)
                opening.enter_context(stderr_held_back())
                opening.enter_context(console.screen())
                self._open = opening.pop_all()
            self._console = console
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._console = None
        self._open.close()

    def run(self, stop: threading.Event) -> None:
        """Shows the board until `stop` is set, and once more then. Raises what `refresh` raises."""
        with self:
            while not stop.wait(REFRESH_S):
                self.refresh()
            self.refresh()

    def refresh(self) -> None:
        """Shows how things are now, and does what the keys say.

        Raises OSError where the output cannot be written; BrokenPipeError where nobody reads it any more.
        """
        updates, status = self._board.take_updates(), self._board.latest_status
        if self._console is None:
            self._write_lines(status, updates)
        else:
            self._memory.extend(updates)
            while self._memory and self._memory[0].time_s <= self._memory[-1].time_s - MEMORY_S:
                self._memory.popleft()
            self._draw(self._console, status)
            self._obey_keys()

    def _draw(self, console: Console, status: Status) -> None:
        width, height = console.size
        view = render(
            status,
            self._memory,
            osc=self._osc(),
            keys=self._key_words(status),
            width=width,
            height=height,
            encoding=console.encoding,
        )
        # One write for both. Every cell is drawn each time: a library may have written over the screen.
        with console:
            console.control(Control.home())
            console.print(Screen(view), end="")

    def _key_words(self, status: Status) -> str:
        if self._toggle_pause is None:
            return "q quit"
        return f"space {'go on' if status.state is SourceState.PAUSED else 'pause'}   q quit"

    def _obey_keys(self) -> None:
        while (key := self._keys.poll()) is not None:
            if key in "qQ":
                self._quit()
            elif key == " " and self._toggle_pause is not None:
                self._toggle_pause()

    def _write_lines(self, status: Status, updates: Sequence[Update]) -> None:
        lines = [update_line(update, status) for update in updates]
        state, fault = self._told
        # In the order in which it most likely was: a source that gives nothing more has given these before.
        if status.state is not state:
            begins = status.state in (SourceState.OPENING, SourceState.RUNNING)
            lines.insert(0 if begins else len(lines), source_line(status))
        if status.recording_fault and status.recording_fault != fault:
            lines.append(f"{status.time_s:.1f} s  recording incomplete: {status.recording_fault}")
        self._told = status.state, status.recording_fault
        if self._stream is not None:
            for line in lines:
                self._stream.write(plain(line, self._stream.encoding) + "\n")
                self._stream.flush()


def update_line(update: Update, status: Status) -> str:
    """A prediction as one line, with what the input is: `12.5 s  valence +0.123  arousal -0.301  music`."""
    state = LevelState.MUSIC if status.level is None else status.level.state
    heard = f"{LevelState.SILENCE}, held" if update.held else str(state)
    prediction = update.prediction
    return f"{update.time_s:.1f} s  valence {prediction.valence:+.3f}  arousal {prediction.arousal:+.3f}  {heard}"


def source_line(status: Status) -> str:
    """What the source does, as one line: `12.5 s  source lost: USB Audio: It was unplugged.`"""
    detail = f": {status.detail}" if status.detail else ""
    return f"{status.time_s:.1f} s  source {status.state}: {status.source}{detail}"


def render(
    status: Status,
    updates: Sequence[Update],
    *,
    osc: Sequence[str],
    keys: str,
    width: int,
    height: int,
    encoding: str = "utf-8",
) -> Text:
    """The whole view, at most `height` lines, none longer than `width` cells.

    updates: those of the last MEMORY_S seconds, the present one last. osc: the targets. keys: what keys there are.
    encoding: the terminal's; it decides which characters are drawn.
    """
    glyphs = _UNICODE if encoding.lower().startswith("utf") else _ASCII
    page = _Page(status, updates, [plain(target, encoding) for target in osc], keys, glyphs, encoding)
    lines = page.wide(width, height) if width >= _WIDE_COLUMNS and height >= _WIDE_ROWS else page.narrow(width, height)
    for line in lines:
        line.truncate(width)
    return Text("\n", no_wrap=True, overflow="crop", end="").join(lines[:height])


class _Page:
    """The parts of the view, and the two ways to put them together."""

    def __init__(
        self,
        status: Status,
        updates: Sequence[Update],
        osc: Sequence[str],
        keys: str,
        glyphs: _Glyphs,
        encoding: str,
    ) -> None:
        self._status = status
        self._updates = updates
        self._osc = osc
        self._keys = keys
        self._glyphs = glyphs
        self._encoding = encoding

    def wide(self, width: int, height: int) -> list[Text]:
        above = [self._title(width), *self._detail(width)]
        above += [Text() for _ in range(1 + _DETAIL_ROWS - len(above))]
        below = self._destinations(width)
        rows = _odd(min(height - len(above) - len(below) - 2, _LARGEST_PLANE_ROWS))
        # A cell is about twice as high as wide.
        columns = _odd(min(width - _NUMBERS_COLUMNS - 4, 2 * rows + 11))
        plane = self._plane(columns, rows)
        numbers = self._numbers(min(width - columns - 4, columns))[: height - len(above) - len(below)]
        plane += [Text(" " * (columns + 2)) for _ in range(len(numbers) - len(plane))]
        # Onto an empty text: the plane's own style is for the plane alone.
        beside = [Text().append_text(plane[i]).append("  ").append_text(line) for i, line in enumerate(numbers)]
        return [*above, *beside, *plane[len(numbers) :], *below]

    def narrow(self, width: int, height: int) -> list[Text]:
        above = [self._title(width), *self._detail(width)]
        below = [
            *(self._value_line(name, width) for name in ("valence", "arousal")),
            self._note(width),
            *self._level(width),
            self._line("latency", self._latency(), width),
            self._counts(width),
            *self._destinations(width),
        ]
        rows = _odd(min(height - len(above) - len(below) - 2, (width - 2) // 2, _LARGEST_PLANE_ROWS))
        columns = _odd(width - 2)
        has_room = rows >= _SMALLEST_PLANE_ROWS and columns >= _SMALLEST_PLANE_COLUMNS
        return [*above, *(self._plane(columns, rows) if has_room else []), *below]

    def _title(self, width: int) -> Text:
        """State, source, and how long it has been heard."""
        status = self._status
        title = Text().append(f" {status.state.upper()} ", style=_SOURCE_STYLES[status.state])
        clock = _clock(status.time_s)
        room = width - title.cell_len - len(clock) - 2
        name = self._fit(plain(status.source, self._encoding), max(room, 0))
        return title.append(f" {name}{' ' * max(room - cell_len(name), 0)} {clock}")

    def _detail(self, width: int) -> list[Text]:
        detail = plain(self._status.detail, self._encoding)
        more = f" {self._glyphs.ellipsis}"
        rows = textwrap.wrap(detail, max(width - 1, len(more) + 1), max_lines=_MOST_DETAIL_ROWS, placeholder=more)
        return [Text(" " + self._fit(row, width - 1), style="bold") for row in rows]

    def _plane(self, columns: int, rows: int) -> list[Text]:
        """Valence to the right, arousal upwards, in a frame: rows + 2 lines of columns + 2 cells; both odd."""
        glyphs = self._glyphs
        middle_row, middle_column = rows // 2, columns // 2
        grid = [list(glyphs.horizontal * columns if row == middle_row else " " * columns) for row in range(rows)]
        for row in range(rows):
            grid[row][middle_column] = glyphs.cross if row == middle_row else glyphs.vertical
        _write(grid, middle_row, columns - len(" valence +1"), " valence +1")
        _write(grid, middle_row, 0, "-1 ")
        bright: list[tuple[int, int, int]] = []
        words = _QUADRANTS if max(map(len, _QUADRANTS)) + 1 <= middle_column else _QUADRANTS_SHORT
        for i, word in enumerate(words):
            row = 0 if i < 2 else rows - 1
            column = 1 if i % 2 == 0 else columns - 1 - len(word)
            _write(grid, row, column, word)
            bright.append((row, column, column + len(word)))
        point: tuple[int, int] | None = None
        if self._updates:
            present = self._updates[-1]
            for update in self._updates:
                row, column = _cell(update, rows, columns)
                if update.time_s > present.time_s - _TRAIL_S and not grid[row][column].isalpha():
                    grid[row][column] = glyphs.trail
            point = _cell(present, rows, columns)
            grid[point[0]][point[1]] = glyphs.held_point if present.held else glyphs.point
        lines = [Text(f"{glyphs.vertical}{''.join(cells)}{glyphs.vertical}", style="dim") for cells in grid]
        for row, start, end in bright:
            lines[row].stylize("not dim", start + 1, end + 1)
        if point is not None:
            lines[point[0]].stylize("not dim bold cyan", point[1] + 1, point[1] + 2)
        upper_left, upper_right, lower_left, lower_right = glyphs.corners
        top = upper_left + f"{' arousal +1 ':{glyphs.horizontal}^{columns}}" + upper_right
        bottom = lower_left + f"{' -1 ':{glyphs.horizontal}^{columns}}" + lower_right
        return [Text(top, style="dim"), *lines, Text(bottom, style="dim")]

    def _numbers(self, width: int) -> list[Text]:
        status = self._status
        numbers = []
        for name in ("valence", "arousal"):
            value = self._value(name)
            numbers.append(self._line(name, _signed(value), width, style="bold"))
            numbers.append(self._scale(value, width))
        numbers += [
            self._note(width),
            Text(),
            *self._level(width),
            self._line("gain", f"{status.gain_db:+.1f} dB", width),
            Text(),
            self._line("latency", self._latency(), width),
            self._count("dropped", status.dropped_blocks, f" blocks ({status.dropped_s:.1f} s)", width),
            self._count("overflows", status.overflows, "", width),
            self._count("losses", status.losses, f" ({status.lost_s:.1f} s in all)", width),
        ]
        if status.replaced_samples:
            numbers.append(self._count("replaced", status.replaced_samples, " samples", width))
        return numbers

    def _value(self, name: str) -> float | None:
        return float(getattr(self._updates[-1].prediction, name)) if self._updates else None

    def _value_line(self, name: str, width: int) -> Text:
        value = self._value(name)
        line = Text().append(f"{name} {_signed(value)} ", style="bold")
        return line.append_text(self._bar(value, _odd(width - len(line))))

    def _scale(self, value: float | None, width: int) -> Text:
        bar = self._bar(value, _odd(width - 6))
        return Text().append("-1 ", style="dim").append_text(bar).append(" +1", style="dim")

    def _bar(self, value: float | None, width: int) -> Text:
        """A bar from the middle, of an odd number of cells, for a value in [-1, 1]."""
        glyphs = self._glyphs
        half = max(width, 1) // 2
        filled = 0 if value is None else round(min(abs(value), 1.0) * half)
        below, above = (filled, 0) if value is not None and value < 0 else (0, filled)
        bar = Text()
        bar.append(glyphs.horizontal * (half - below), style="dim")
        bar.append(glyphs.full * below, style="cyan")
        bar.append(glyphs.vertical)
        bar.append(glyphs.full * above, style="cyan")
        bar.append(glyphs.horizontal * (half - above), style="dim")
        return bar

    def _note(self, width: int) -> Text:
        """Why the prediction is not simply that of what sounds now, where it is not."""
        state = self._status.state
        if not self._updates:
            note = "no prediction yet"
        elif state is not SourceState.RUNNING:
            note = f"the last one: the source is {state}" if state is not SourceState.ENDED else "the last one"
        elif self._updates[-1].held:
            note = "held: silence"
        else:
            return Text()
        return Text(self._fit(note, width), style="bold cyan")

    def _level(self, width: int) -> list[Text]:
        """The input's level in numbers, its meter, and its state: three lines."""
        level = self._status.level if self._status.state is SourceState.RUNNING else None
        if level is None:
            return [self._line("input", "no sound", width), self._meter(None, width), Text()]
        state = Text().append(f" {level.state.upper()} ", style=_LEVEL_STYLES[level.state])
        state.append(self._fit(f" {_LEVEL_ADVICE[level.state]}", max(width - state.cell_len, 0)))
        numbers = f"{level.rms_db:.1f} dBFS, peak {level.peak_db:.1f}"
        return [self._line("input", numbers, width), self._meter(level, width), state]

    def _meter(self, level: InputLevel | None, width: int) -> Text:
        glyphs = self._glyphs
        meter = Text()
        if level is None:
            return meter.append(glyphs.horizontal * width, style="dim")
        filled = _meter_cells(level.rms_db, width)
        meter.append(glyphs.full * filled, style="green" if level.state is LevelState.MUSIC else "yellow")
        meter.append(glyphs.horizontal * (width - filled), style="dim")
        peak = _meter_cells(level.peak_db, width) - 1
        if peak >= filled:
            meter = meter[:peak].append(glyphs.peak, style="bold").append_text(meter[peak + 1 :])
        return meter

    def _latency(self) -> str:
        """The last one, and the median of those remembered."""
        latencies_s = [update.latency_s for update in self._updates if update.latency_s is not None]
        if not latencies_s:
            return "not live" if self._updates else "none yet"
        return f"{1000 * latencies_s[-1]:.0f} ms, median {1000 * statistics.median(latencies_s):.0f} ms"

    def _count(self, label: str, count: int, more: str, width: int) -> Text:
        return self._line(label, f"{count}{more}", width, style=_COUNTED if count else "")

    def _counts(self, width: int) -> Text:
        status = self._status
        counts = {"dropped": status.dropped_blocks, "overflows": status.overflows, "losses": status.losses}
        line = Text(self._fit("  ".join(f"{name} {count}" for name, count in counts.items()), width))
        if any(counts.values()):
            line.stylize(_COUNTED)
        return line

    def _destinations(self, width: int) -> list[Text]:
        status = self._status
        recording = "off" if status.recording is None else status.recording
        if status.recording_fault:
            recording = f"INCOMPLETE: {status.recording_fault} ({recording})"
        recording = plain(recording, self._encoding)
        return [
            self._line("recording", recording, width, style=_ALARM if status.recording_fault else ""),
            self._line("OSC to", ", ".join(self._osc) or "nobody", width),
            self._line("keys", self._keys, width),
        ]

    def _line(self, label: str, value: str, width: int, style: str = "") -> Text:
        line = Text().append(set_cell_size(label, _LABEL_COLUMNS), style="dim")
        return line.append(self._fit(value, max(width - _LABEL_COLUMNS, 0)), style=style)

    def _fit(self, text: str, width: int) -> str:
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, max(width - 1, 0)) + self._glyphs.ellipsis[:width]


def screen_console(stream: TextIO | None) -> Console | None:
    """A console for a full screen; None where the stream offers none."""
    fd = terminal_fd(stream)
    if fd is None or not in_foreground(fd):
        return None
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    return None if console.is_dumb_terminal or console.legacy_windows or not console.is_terminal else console


class _HeldBack(io.TextIOBase):
    """Text for later; the oldest goes first where it gets too much."""

    def __init__(self) -> None:
        self.pieces: deque[str] = deque(maxlen=_HELD_BACK_LINES)

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


@contextlib.contextmanager
def stderr_held_back() -> Iterator[None]:
    """What is written to standard error inside is written after, where it would go to a terminal."""
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
    """One line that the encoding can say and that does nothing to a terminal: a file's or device's name is anything."""
    printable = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    return printable.encode(encoding or "ascii", "replace").decode(encoding or "ascii")


def _cell(update: Update, rows: int, columns: int) -> tuple[int, int]:
    """Row and column of a prediction in the plane, from its upper left corner."""
    values = (update.prediction.valence, update.prediction.arousal)
    valence, arousal = (min(max(value, -1.0), 1.0) for value in values)
    return round((1 - arousal) / 2 * (rows - 1)), round((valence + 1) / 2 * (columns - 1))


def _meter_cells(level_db: float, width: int) -> int:
    return round(min(max(1 - level_db / _METER_FLOOR_DB, 0.0), 1.0) * width)


def _write(grid: list[list[str]], row: int, column: int, word: str) -> None:
    grid[row][column : column + len(word)] = word


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _odd(number: int) -> int:
    return number if number % 2 else number - 1


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(int(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
