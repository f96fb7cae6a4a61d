"""Commands to a running program, by the names and values of the address space (osc/space.py)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from realtime_mer.config.checks import shown
from realtime_mer.config.osc import SMOOTHINGS
from realtime_mer.config.space import Values
from realtime_mer.live.requests import RefusedError, Requests
from realtime_mer.osc.sink import OscSink
from realtime_mer.recording import RecordingError
from realtime_mer.sources import Source
from realtime_mer.updates import Answer, SourceState

if TYPE_CHECKING:
    from realtime_mer.recording.recorder import Recorder

# It becomes a folder's name: no path, and no name that means something else on some system.
_FOLDER_NAME = re.compile(
    # Windows' devices, also with a suffix.
    r"(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9]) *(?:\.|$))"
    r"[a-z0-9][a-z0-9 _.-]{0,79}(?<![ .])",
    re.ASCII | re.IGNORECASE,
)


@runtime_checkable
class Pausable(Protocol):
    """A source that can be paused."""

    @property
    def state(self) -> SourceState: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


@runtime_checkable
class Choosable(Protocol):
    """A source that can change to another device."""

    def choose(self, name: str, answer: Answer) -> None:
        """Never waits. Answers once the device is open, or could not be opened."""
        ...


class Controls:
    """Carries commands out, each with one answer. Any thread may call it; it never waits.

    open_recorder: starts a recording in a new folder of this name, in the program's working folder, or raises
    RecordingError.
    """

    def __init__(
        self, source: Source, osc: OscSink, requests: Requests, open_recorder: Callable[[Path], Recorder]
    ) -> None:
        self._source = source
        self._osc = osc
        self._requests = requests
        self._open_recorder = open_recorder

    def carry_out(self, name: str, values: Values, answer: Answer) -> None:
        """name: one of space.COMMANDS; values: of its types, finite numbers and printable text."""
        try:
            match (name, *values):
                case ["pause"]:
                    self._pausable().pause()
                    answer(True, "paused")
                case ["resume"]:
                    self._pausable().resume()
                    answer(True, "resumed")
                case ["reset"]:
                    self._requests.put(lambda recognition: recognition.reset(), answer)
                case ["device", str(device)]:
                    if not isinstance(self._source, Choosable):
                        raise RefusedError("The input is a file, so there is no device to change.")
                    self._source.choose(device, answer)
                case ["rate", float(rate_hz) | int(rate_hz), *target]:
                    _require(1 <= rate_hz <= 120, "a rate from 1 to 120 Hz", rate_hz)
                    self._osc.set_rate(float(rate_hz), self._target(target))
                    answer(True, f"{rate_hz:g} Hz")
                case ["smoothing", str(kind), *rest]:
                    answer(True, self._set_smoothing(kind, rest))
                case ["record/start", *folder]:
                    self._start_recording(folder, answer)
                case ["record/stop"]:
                    self._requests.put(lambda recognition: recognition.stop_recording(), answer)
                case ["delay", float(delay_ms) | int(delay_ms)]:
                    _require(0 <= delay_ms <= 10_000, "a delay from 0 to 10000 ms", delay_ms)
                    self._osc.set_delay(delay_ms / 1000.0)
                    answer(True, f"{delay_ms:g} ms")
                case ["mark", *text]:
                    words = "".join(map(str, text))
                    self._requests.put(lambda recognition: recognition.mark(words), answer)
                case ["ping"]:
                    answer(True, "pong")
                case _:
                    raise RefusedError("There is no such command.")
        except RefusedError as error:
            answer(False, str(error))

    def _pausable(self) -> Pausable:
        if not isinstance(self._source, Pausable):
            raise RefusedError("This input cannot be paused.")
        return self._source

    def _start_recording(self, folder: list[float | int | str], answer: Answer) -> None:
        name = _folder_name(folder)

        def give_up(reason: str) -> None:
            self._requests.follow_up(lambda recognition: recognition.give_up_recording(reason), answer)

        def open_recorder() -> None:
            try:
                recorder = self._open_recorder(Path(name))
            except RecordingError as error:
                give_up(str(error))
                return
            except BaseException as error:
                give_up(f"{type(error).__name__}: {error}")
                raise

            def started(ok: bool, text: str) -> None:
                if not ok:
                    recorder.finish(open_end=False)
                answer(ok, text)

            self._requests.follow_up(lambda recognition: recognition.start_recording(recorder), started)

        def prepared(ok: bool, text: str) -> None:
            if ok:
                # In a thread of its own, so that no other thread waits for a disk.
                try:
                    threading.Thread(target=open_recorder, name="new recording", daemon=True).start()
                except RuntimeError as error:  # no more threads
                    give_up(str(error))
            else:
                answer(False, text)

        self._requests.put(lambda recognition: recognition.prepare_recording(), prepared)

    def _set_smoothing(self, kind: str, rest: list[float | int | str]) -> str:
        _require(kind in SMOOTHINGS, f"one of {', '.join(SMOOTHINGS)}", kind)
        settle_s = float(rest[0]) if rest else 0.0
        _require(settle_s == 0 or 0.05 <= settle_s <= 60, "a time of 0 or from 0.05 to 60 s", settle_s)
        self._osc.set_smoothing(kind, settle_s or None, self._target(rest[1:]))
        return f"{kind}, {settle_s:g} s" if settle_s else kind

    def _target(self, values: list[float | int | str]) -> int | None:
        """The number of a target, from 1 on; None for all."""
        if not values:
            return None
        number, n_targets = int(values[0]), self._osc.n_targets
        if not n_targets:
            raise RefusedError("There are no targets.")
        _require(1 <= number <= n_targets, f"a target from 1 to {n_targets}", number)
        return number


def pause_toggle(source: Source) -> Callable[[], None] | None:
    """A function that pauses and resumes the source in turn; None if it cannot be paused."""
    if not isinstance(source, Pausable):
        return None

    def toggle() -> None:
        if source.state is SourceState.PAUSED:
            source.resume()
        else:
            source.pause()

    return toggle


def _folder_name(values: list[float | int | str]) -> str:
    name = str(values[0]) if values else f"recording {datetime.now():%Y-%m-%d %H.%M.%S}"
    _require(bool(_FOLDER_NAME.fullmatch(name)), "a folder name of letters, digits, spaces and _ . -", name)
    return name


def _require(holds: bool, expected: str, value: object) -> None:
    if not holds:
        raise RefusedError(f"Expected {expected}, got {shown(round(value, 6) if isinstance(value, float) else value)}.")
