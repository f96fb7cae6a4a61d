"""Builds a live run from its settings: its source, its sinks and its display."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from realtime_mer.config import DisplaySettings, LiveSettings, ModelSettings
from realtime_mer.config.addresses import parse_listen
from realtime_mer.endings import FAILED, OK, discard_stdout, ending_by_signal, exit_code
from realtime_mer.errors import CheckpointError, UsageError
from realtime_mer.live.controls import Controls, pause_toggle
from realtime_mer.live.input_faults import InputWatch
from realtime_mer.live.recognition import Recognition, run_live
from realtime_mer.live.requests import Requests
from realtime_mer.log import LOGGER, notify
from realtime_mer.log.sink import CarryOut, LogSink, log_commands
from realtime_mer.models.packaged import chosen_checkpoint_path
from realtime_mer.osc.composing import Event
from realtime_mer.osc.sink import OscSink
from realtime_mer.priorities import raise_priority
from realtime_mer.sources import Source
from realtime_mer.updates import Board, Sink
from realtime_mer.window.mainthread import MainThread, MainThreadLostError
from realtime_mer.window.notices import Notices

if TYPE_CHECKING:
    from realtime_mer.live.session import Session
    from realtime_mer.osc.control import ControlServer
    from realtime_mer.osc.query import QueryServer
    from realtime_mer.osc.status import NetworkStatus
    from realtime_mer.recording import Beginning
    from realtime_mer.recording.recorder import Recorder

_STDIN = "-"
_WAIT_S = 0.2


def listen(settings: LiveSettings) -> None:
    """`realtime-mer`: listens to a sound card or a file. Raises what run_live raises, and UsageError."""
    source = _source(settings)
    # Don't raise the priority of --fast runs.
    if not settings.input.fast:
        raise_priority()
    _run(settings, source)


def demo(settings: LiveSettings, *, loop: bool, sound: bool) -> None:
    """`realtime-mer demo`: plays the built-in piece."""
    from realtime_mer.demo.source import DemoSource

    raise_priority()
    _run(settings, DemoSource(loop=loop, sound=sound))
    # As it has to be typed here: in a clone, the command is not in the PATH.
    typed = "realtime-mer" if shutil.which("realtime-mer") or not sys.argv[0].endswith("realtime-mer") else sys.argv[0]
    next_ = f"`{typed} devices` lists this machine's inputs, and `{typed}` analyses the default one."
    print(f"realtime-mer: That was the demo. Next: {next_}", file=sys.stderr)


def replay(directory: Path, settings: LiveSettings, *, fast: bool) -> bool:
    """`realtime-mer replay`: replays a recording and prints how the predictions compare.

    The level, the model's name and the rate are those of the recording.
    Returns False if a complete replay differs. Raises RecordingError if the recording cannot be read or was made with
    another model.
    """
    from realtime_mer.recording import RecordingError
    from realtime_mer.recording.check import ReplayCheck
    from realtime_mer.recording.reader import read_recording
    from realtime_mer.recording.source import RecordingSource

    recording = read_recording(directory)
    recorded, own = recording.settings, settings.model.checkpoint
    model = ModelSettings(recorded.model.name) if own is None else ModelSettings(checkpoint=own)
    path = chosen_checkpoint_path(model)
    if _sha256(path) != recording.checkpoint_sha256:
        raise RecordingError(
            f"The recording {directory} was made with another model than {path}. Replay it with its own model: "
            "--checkpoint PATH"
        )
    settings = replace(settings, level=recorded.level, model=replace(model, rate_hz=recorded.model.predictions_hz))
    check = ReplayCheck(recording)
    if not fast:
        raise_priority()

    def is_as_recorded(came_to_end: bool) -> bool:
        if not came_to_end:
            print("realtime-mer: The replay ended early, so it is not compared with the recording.", file=sys.stderr)
            return True
        print(f"realtime-mer: {check.verdict()}", file=sys.stderr)
        return check.identical

    source = RecordingSource(recording, fast=fast)
    return _run(settings, source, check, beginning=recording.began, verdict=is_as_recorded)


def _source(settings: LiveSettings) -> Source:
    audio_input = settings.input
    if audio_input.file is None:
        if audio_input.loop or audio_input.fast:
            raise UsageError("--loop and --fast need --input FILE: a sound card always runs in real time.")
        from realtime_mer.sources.device import DeviceSource

        return DeviceSource(settings.audio)
    if audio_input.file == _STDIN:
        if audio_input.loop or audio_input.fast:
            raise UsageError("--loop and --fast need a file: standard input is processed as fast as it arrives.")
        from realtime_mer.sources.pcm import PcmSource

        stream = None if sys.stdin is None else sys.stdin.buffer
        return PcmSource(stream, audio_input.pcm_format, audio_input.pcm_rate_hz, audio_input.pcm_channels)
    from realtime_mer.sources.file import FileSource

    return FileSource(Path(audio_input.file), loop=audio_input.loop, fast=audio_input.fast)


def _run(
    settings: LiveSettings,
    source: Source,
    *more_sinks: Sink,
    beginning: Beginning | None = None,
    verdict: Callable[[bool], bool] = lambda _: True,
) -> bool:
    """A whole run; returns its verdict. beginning: where a replay's recording began.

    verdict: gets whether the source came to its end, and returns whether the run succeeded.
    """
    with ending_by_signal() as stop:
        # Without a window, nothing else needs the main thread.
        main_thread = MainThread() if settings.display.plot else None

        def run() -> bool:
            return verdict(_run_until(stop, settings, source, more_sinks, beginning, main_thread))

        return run() if main_thread is None else main_thread.run(run)


def _run_until(
    stop: threading.Event,
    settings: LiveSettings,
    source: Source,
    more_sinks: Sequence[Sink],
    beginning: Beginning | None,
    main_thread: MainThread | None,
) -> bool:
    """Returns whether the source came to its end. main_thread: for the window; None: no window."""
    board = Board(source.name)
    # In full, since a recording keeps it: another version may have another default.
    model = replace(settings.model, rate_hz=settings.model.predictions_hz)
    settings = replace(settings, model=model)
    checkpoint_path = chosen_checkpoint_path(model)
    # Read here, so that a missing model is reported before a device is opened.
    checkpoint_sha256 = _sha256(checkpoint_path)
    LOGGER.info("model %s, SHA-256 %s, %g predictions a second", checkpoint_path, checkpoint_sha256, model.rate_hz)

    def open_session() -> Session:
        # In the recognition thread: sound is coming in while SciPy is imported and the model is loaded.
        from realtime_mer.live.session import Session
        from realtime_mer.models.checkpoint import load_checkpoint

        return Session(
            load_checkpoint(checkpoint_path),
            settings.level,
            beginning,
            settings.quadrant,
            prediction_rate_hz=model.predictions_hz,
        )

    def open_recorder(directory: Path) -> Recorder:
        from realtime_mer.recording.recorder import Recorder

        return Recorder(directory, settings, source.name, checkpoint_sha256)

    with contextlib.ExitStack() as opened:
        opened.enter_context(contextlib.closing(source))
        osc = opened.enter_context(contextlib.closing(OscSink(settings.osc.targets, settings.osc.delay_s)))
        source.start()
        requests = Requests()
        carry_out = log_commands(Controls(source, osc, requests, open_recorder).carry_out)
        control = _control(settings, carry_out, osc, opened)
        query = _query(settings, osc, control, opened)
        # Only now: a source that cannot be opened must leave no folder behind.
        directory = settings.recording.directory
        recorder = None if directory is None else open_recorder(Path(directory))
        sinks: list[Sink] = [osc, board, *more_sinks, LogSink(osc.target_statuses)]

        def emit(event: Event) -> None:
            osc.event(event)
            match event:
                case Event("event/mark", (int(number),)):
                    board.mark(number)

        recognition = Recognition(
            source,
            open_session,
            sinks,
            recorder,
            requests=requests,
            emit=emit,
            ignored_packets=lambda: control.ignored if control else 0,
            watch=InputWatch(settings.level.silence_db),
        )
        operator = _operator(source, carry_out, board, _destinations(osc, control, query))
        display = _display(settings.display, board, operator, main_thread)
        return run_live(source, recognition, sinks, display, stop)


def _control(
    settings: LiveSettings, carry_out: CarryOut, osc: OscSink, opened: contextlib.ExitStack
) -> ControlServer | None:
    if settings.control.listen is None:
        return None
    from realtime_mer.osc.control import ControlServer

    def acknowledge(ok: bool, name: str, text: str) -> None:
        osc.event(Event("status/ack" if ok else "status/error", (name, text)))

    server = ControlServer(*parse_listen(settings.control.listen), carry_out, acknowledge)
    return opened.enter_context(contextlib.closing(server))


def _query(
    settings: LiveSettings, osc: OscSink, control: ControlServer | None, opened: contextlib.ExitStack
) -> QueryServer | None:
    if settings.osc.query is None:
        return None
    from realtime_mer.osc.query import QueryServer

    bound = None if control is None else (control.host, control.port)
    server = opened.enter_context(contextlib.closing(QueryServer(*parse_listen(settings.osc.query), control=bound)))
    osc.add_listener(server.settings, server.take)
    return server


def _destinations(
    osc: OscSink, control: ControlServer | None, query: QueryServer | None
) -> Callable[[], Sequence[NetworkStatus]]:
    """Returns a function that lists what goes over the network."""
    servers = [server for server in (control, query) if server is not None]
    return lambda: [*osc.target_statuses(), *(server.status() for server in servers)]


@dataclass(frozen=True, slots=True)
class _Operator:
    """What the operator at this computer can do and see beside the board.

    toggle_pause: None if the source cannot pause. mark: marks this moment. destinations: what goes over the network.
    """

    toggle_pause: Callable[[], None] | None
    toggle_recording: Callable[[], None]
    mark: Callable[[], None]
    notices: Notices
    destinations: Callable[[], Sequence[NetworkStatus]]


def _operator(
    source: Source, carry_out: CarryOut, board: Board, destinations: Callable[[], Sequence[NetworkStatus]]
) -> _Operator:
    notices = Notices()

    def toggle_recording() -> None:
        name = "record/stop" if board.latest_status.recording else "record/start"
        word = "Recorded into" if name == "record/stop" else "Recording into"

        def answer(ok: bool, text: str) -> None:
            notices.post(f"{word} {text}" if ok else text, fault=not ok)

        carry_out(name, (), answer)

    def mark() -> None:
        carry_out("mark", (), lambda ok, text: notices.post(text, fault=not ok))

    return _Operator(pause_toggle(source), toggle_recording, mark, notices, destinations)


def _display(
    settings: DisplaySettings, board: Board, operator: _Operator, main_thread: MainThread | None
) -> Callable[[threading.Event], None]:
    """Shows the window while there is a display, otherwise the terminal view, otherwise only waits for the end."""

    def show(stop: threading.Event) -> None:
        if main_thread is not None and _show_window(settings, board, stop, operator, main_thread):
            return
        if settings.terminal:
            from realtime_mer.terminal.view import TerminalView

            view = TerminalView(board, quit_=stop.set, toggle_pause=operator.toggle_pause, osc=operator.destinations)
            try:
                view.run(stop)
            except BrokenPipeError:
                raise
            except OSError as error:
                # A full disk behind redirected output must not end the run.
                notify(f"no more lines: {error.strerror or error}")
                discard_stdout()
                _wait(stop)
        else:
            _wait(stop)

    return show


def _wait(stop: threading.Event) -> None:
    # In short waits: on Windows, a wait without a timeout ignores Ctrl-C.
    while not stop.wait(_WAIT_S):
        pass


def _show_window(
    settings: DisplaySettings, board: Board, stop: threading.Event, operator: _Operator, main_thread: MainThread
) -> bool:
    """Returns whether the run has ended; False if there is no window, or no longer one."""

    def show() -> None:
        from realtime_mer.window import display_fault

        fault = display_fault()
        if fault is not None:
            notify(f"no window: {fault}")
            return
        from realtime_mer.window.run import run_window
        from realtime_mer.window.shortcuts import Action

        run_window(
            board,
            stop,
            settings=settings,
            actions={
                Action.PAUSE: operator.toggle_pause,
                Action.RECORD: operator.toggle_recording,
                Action.MARK: operator.mark,
            },
            notices=operator.notices,
            osc=operator.destinations,
            lost=lambda: main_thread.leave(lambda all_well: exit_code(lambda: OK if all_well() else FAILED)),
        )

    try:
        main_thread.do(show)
    except MainThreadLostError:
        notify("the display is gone; the run goes on without a window. Ctrl-C ends it.")
    return stop.is_set()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error.strerror or error}.") from error
