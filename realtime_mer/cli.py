"""The command `realtime-mer`: its arguments, and what runs them."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from realtime_mer import __version__
from realtime_mer.config import (
    LOG_LEVELS,
    MODEL_NAMES,
    MODES,
    PCM_FORMATS,
    PREDICTION_RATES_HZ,
    THEMES,
    LiveSettings,
    load_settings,
    settings_toml,
)
from realtime_mer.config.addresses import LARGEST_PORT, address_text
from realtime_mer.config.profiles import profile_names
from realtime_mer.endings import FAILED, OK, exit_code, leave, never_fail_to_print
from realtime_mer.log import begin as begin_log
from realtime_mer.log.libraries import log_what_libraries_print
from realtime_mer.misspelling import Parser, check_words

Number = TypeVar("Number", int, float)

_DEFAULTS = LiveSettings()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (None: those of the process) and returns its exit code.

    0: success, also if Ctrl-C ended a live run or osc-monitor. 1: failure. 2: wrong use. 130: Ctrl-C in anything else.
    141: the reader of the standard output has closed it.
    """
    never_fail_to_print()
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    check_words(parser, arguments)
    options = parser.parse_args(arguments)
    return exit_code(lambda: options.run(options))


def run() -> NoReturn:
    """The process: `main`, then its end."""
    log_what_libraries_print()
    leave(main())


def _parser() -> argparse.ArgumentParser:
    inputs, levels, outputs = _input_options(), _level_options(), _output_options()
    parser: argparse.ArgumentParser = Parser(
        prog="realtime-mer",
        description="Real-time music-emotion recognition: sound in, valence and arousal out, up to twenty times a "
        "second. Without a command it listens to a sound card until Ctrl-C.",
        parents=[inputs, levels, outputs],
    )
    parser.add_argument("--version", action="version", version=f"realtime-mer {__version__}")
    parser.set_defaults(run=_listen)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="play and follow a built-in piece of music in four moods",
        description="Plays a built-in piece (bright and fast, tense, calm, sad), with sound if there is an output "
        "device, through the whole live pipeline.",
        parents=[levels, outputs],
    )
    demo.add_argument("--loop", action="store_true", help="begin again at its end")
    demo.add_argument("--no-sound", action="store_true", help="only analyse it")
    demo.set_defaults(run=_demo)

    devices = commands.add_parser(
        "devices",
        help="list the inputs, and what to type for each",
        description="Lists this machine's sound inputs with what to type after --device, and marks those that capture "
        "what is playing.",
    )
    devices.set_defaults(run=_devices)

    doctor = commands.add_parser(
        "doctor",
        help="check that everything works here, and show what to do if not",
        description="Checks everything that a run with these options needs. Prints a line for each check, with what to "
        "do if something is wrong. Takes about ten seconds, and listens to the input for one. Exit code 1 if a run "
        "would fail.",
        parents=[inputs, levels, outputs],
    )
    doctor.add_argument("--json", action="store_true", help="print the report as JSON")
    doctor.set_defaults(run=_doctor)

    replay = commands.add_parser(
        "replay",
        help="send a recording through the pipeline again, and compare",
        description="Sends what --record recorded through the pipeline again, and checks that every prediction is the "
        "one that was recorded. Exit code 1 if one is not.",
        parents=[outputs],
    )
    replay.add_argument("recording", type=Path, metavar="DIR", help="the folder that --record made")
    replay.add_argument("--fast", action="store_true", help="as fast as possible instead of in real time")
    replay.set_defaults(run=_replay)

    _add_predict(commands)
    _add_view(commands)
    _add_osc_monitor(commands)
    return parser


class _SettingOptions(argparse.ArgumentParser):
    """Options that override a key of the settings. They are named after it, and absent unless given."""

    def __init__(self, title: str) -> None:
        super().__init__(add_help=False, argument_default=argparse.SUPPRESS)
        self.start_group(title)

    def start_group(self, title: str) -> None:
        self.group = self.add_argument_group(title)

    def value(self, flag: str, key: str, metavar: str | None, text: str, **more: Any) -> None:
        """text: the help; {default} in it stands for the key's default."""
        default = reduce(getattr, key.split("."), _DEFAULTS)
        number = f"{default:g}" if isinstance(default, float) else default
        self.group.add_argument(flag, dest=key, metavar=metavar, help=text.format(default=number), **more)

    def switch(self, flag: str, key: str, value: object, text: str) -> None:
        """An option without an argument, which sets the key to this value."""
        self.group.add_argument(flag, dest=key, action="store_const", const=value, help=text)


def _input_options() -> argparse.ArgumentParser:
    options = _SettingOptions("what to listen to")
    value, switch = options.value, options.switch
    value("--device", "audio.device", "DEVICE", "default, an index, or a part of a name, as in `realtime-mer devices`")
    value("--host-api", "audio.host_api", "NAME", "only devices of this host API")
    text = "the device's channels to use, such as 1,2 or 3-4 (default: the first two)"
    value("--channels", "audio.channels", "LIST", text, type=_channels)
    value("--rate", "audio.rate_hz", "HZ", "sample rate (default: the device's own)", type=int)
    text = "samples per channel in a block, 64 to 16384 (default: 10 ms)"
    value("--block-size", "audio.block_samples", "SAMPLES", text, type=int)
    text = "of the sound card's buffer: low, high, or seconds (default: {default})"
    value("--latency", "audio.latency", "S", text, type=_latency)
    value("--input", "input.file", "FILE", "an audio file instead, or - for raw PCM on standard input")
    switch("--loop", "input.loop", True, "begin the file again at its end")
    switch("--fast", "input.fast", True, "read the file as fast as possible, not in real time")
    text = "of standard input (default: {default})"
    value("--pcm-format", "input.pcm_format", None, text, choices=PCM_FORMATS)
    value("--pcm-rate", "input.pcm_rate_hz", "HZ", text, type=int)
    value("--pcm-channels", "input.pcm_channels", "N", text, type=int)
    return options


def _output_options() -> argparse.ArgumentParser:
    """Where the predictions go, and the settings as a whole."""
    options = _SettingOptions("where predictions go")
    value, switch = options.value, options.switch
    targets = ", ".join(address_text(target.host, target.port) for target in _DEFAULTS.osc.targets)
    text = f"send OSC there; may be given more than once (default: {targets})"
    value("--osc", "osc.targets", "[PROFILE@]HOST:PORT", text, action="append")
    text = f"send OSC as this tool needs it: {', '.join(profile_names())}, or a path that ends in .toml; may be given "
    text += "more than once, and together with --osc"
    value("--osc-profile", "osc.targets", "NAME[@HOST[:PORT]]", text, action="append", type=_profile_target)
    switch("--no-osc", "osc.targets", [], "send no OSC")
    value("--osc-delay", "osc.delay_s", "S", "send it this much later, 0 to 10 s (default: {default})", type=float)
    text = "publish what is sent by OSCQuery, on this port (default: off)"
    value("--osc-query", "osc.query", "[HOST:]PORT", text)
    text = "receive commands by OSC on this port, from this computer unless HOST allows more (default: off)"
    value("--control", "control.listen", "[HOST:]PORT", text)
    switch("--no-terminal", "display.terminal", False, "no view in the terminal, which is shown if there is no window")
    value("--record", "recording.directory", "DIR", "record into this new folder")

    options.start_group("the window")
    switch("--no-plot", "display.plot", False, "no window")
    text = "everything, or the plane alone on a whole screen (default: as it was left)"
    value("--mode", "display.mode", None, text, choices=MODES)
    value("--theme", "display.theme", None, "its colours (default: as they were left)", choices=THEMES)
    text = "the screen that it is on, counted from 1 (default: as it was left)"
    value("--screen", "display.screen", "N", text, type=int)
    text = "the point's trail fades in this time, 1 to 120 seconds (default: {default})"
    value("--trail", "display.trail_s", "S", text, type=float)
    switch("--keep-running", "display.keep_running", True, "closing it does not end the run")

    options.start_group("the log")
    text = "write the log to this file; - is standard error (default: no log)"
    value("--log-file", "log.file", "PATH", text)
    value("--log-level", "log.level", None, "how detailed the log is (default: {default})", choices=LOG_LEVELS)

    options.start_group("settings")
    value("--checkpoint", "model.checkpoint", "FILE", "the file of a model of your own")
    options.group.add_argument(
        "--config", type=Path, metavar="FILE", help="a settings file; configs/live.toml explains its keys"
    )
    options.group.add_argument("--print-config", action="store_true", help="print the settings in force, and end")
    return options


def _level_options() -> argparse.ArgumentParser:
    """What the input's level means, and the model; a replay has these from its recording."""
    options = _SettingOptions("input level")
    text = "below this the prediction holds (default: {default})"
    options.value("--silence-db", "level.silence_db", "DBFS", text, type=float)
    text = "music below this is reported as too quiet (default: {default})"
    options.value("--quiet-db", "level.quiet_db", "DBFS", text, type=float)
    _add_model_options(options, "--prediction-rate")
    return options


def _add_model_options(options: _SettingOptions, rate_flag: str) -> None:
    options.start_group("the model")
    text = "the model that comes with realtime-mer: default, or open, which needs no openSMILE (default: {default})"
    options.value("--model", "model.name", None, text, choices=MODEL_NAMES)
    rates = ", ".join(f"{rate:g}" for rate in PREDICTION_RATES_HZ)
    text = f"predictions a second: {rates} (default: 10 for the open model, 2 for others, which have no other rate)"
    options.value(rate_flag, "model.rate_hz", "HZ", text, type=float)


def _file_model_options(rate_flag: str) -> argparse.ArgumentParser:
    """The model, for files."""
    options = _SettingOptions("the model")
    _add_model_options(options, rate_flag)
    options.value("--checkpoint", "model.checkpoint", "FILE", "the file of a model of your own")
    return options


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from realtime_mer.workers import default_jobs

    predict = commands.add_parser(
        "predict",
        help="predict audio files as fast as possible",
        description="Predicts valence and arousal of audio files, exactly as they would be predicted live: one row for "
        "each prediction, from one second after the first sound on, with the end of the second that it describes.",
        parents=[_file_model_options("--rate")],
    )
    add = predict.add_argument
    text = "audio file (wav, flac, mp3, ogg and others; any rate, any number of channels), or a folder of them"
    add("files", nargs="+", type=Path, metavar="FILE", help=text)
    text = "for one file, the file to write (otherwise standard output); for several files or a folder, the folder for "
    text += "their tables, which is made if need be"
    add("--output", type=Path, metavar="PATH", help=text)
    add("--format", choices=("csv", "json"), default="csv", help="of the tables (default: %(default)s)")
    text = "also draw each trajectory, as a PNG beside its table (needs matplotlib)"
    add("--plot", action="store_true", help=text)
    jobs = _number(int, 1, 9999, "a whole number of at least 1")
    text = "files to predict at once (default: one for each core, here %(default)s)"
    add("--jobs", type=jobs, default=default_jobs(), metavar="N", help=text)
    predict.set_defaults(run=_predict)


def _add_view(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    view = commands.add_parser(
        "view",
        help="show a recording or an audio file again, or make a picture or a video of it",
        description="Shows what --record recorded as it was live, in a window to move about in, with its sound; or an "
        "audio file, which is predicted first. With --export it writes a picture of a moment, or a video of everything "
        "with its sound (which needs ffmpeg), and needs no display.",
        parents=[_file_model_options("--rate")],
    )
    add = view.add_argument
    add("source", type=Path, metavar="RECORDING", help="the folder that --record made, or an audio file")
    text = "write a picture (.png, .svg) or a video (.mp4, .mkv, .webm), depending on the path's ending"
    add("--export", type=Path, metavar="PATH", help=text)
    moment = _number(float, 0.0, sys.float_info.max, "a number of seconds")
    text = "the moment to show, in seconds (default: the end for a picture, the start for the window)"
    add("--at", type=moment, metavar="S", help=text)
    text = "everything, or the plane alone (default: operator, and stage for a video)"
    add("--mode", choices=MODES, help=text)
    add("--theme", choices=THEMES, help="its colours (default: dark)")
    text = "in pixels (default: 1920x1080, and 1280x720 for the window)"
    add("--size", type=_size, metavar="WxH", help=text)
    view.set_defaults(run=_view)


def _add_osc_monitor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    (target,) = _DEFAULTS.osc.targets
    monitor = commands.add_parser(
        "osc-monitor",
        help="show the OSC that arrives on a port",
        description="Shows the OSC that arrives on a port, from this program or any other, with rates and jitter.",
    )
    add = monitor.add_argument
    port = _number(int, 1, LARGEST_PORT, f"a port from 1 to {LARGEST_PORT}")
    text = "the port to listen on (default: %(default)s)"
    add("port", nargs="?", type=port, default=target.port, metavar="PORT", help=text)
    text = "this computer's address to listen on; 0.0.0.0 also receives from other computers (default: %(default)s)"
    add("--host", default=target.host, help=text)
    transport = monitor.add_mutually_exclusive_group()
    transport.add_argument("--multicast", metavar="GROUP", help="join this multicast group")
    text = "accept TCP connections, framed with SLIP, instead of UDP"
    transport.add_argument("--tcp", action="store_true", help=text)
    add("--plain", action="store_true", help="a line for each message instead of the table")
    seconds = _number(float, sys.float_info.min, sys.float_info.max, "a number of seconds, more than 0")
    add("--seconds", type=seconds, metavar="S", help="end after this time (default: at Ctrl-C)")
    monitor.set_defaults(run=_osc_monitor)


def _listen(options: argparse.Namespace) -> int:
    from realtime_mer.wiring import listen

    settings = _settings(options)
    if settings is not None:
        listen(settings)
    return OK


def _demo(options: argparse.Namespace) -> int:
    from realtime_mer.wiring import demo

    settings = _settings(options)
    if settings is not None:
        demo(settings, loop=options.loop, sound=not options.no_sound)
    return OK


def _devices(_options: argparse.Namespace) -> int:
    from realtime_mer.sources.devices import devices_table, list_inputs

    print(devices_table(list_inputs()), end="")
    return OK


def _doctor(options: argparse.Namespace) -> int:
    from realtime_mer.doctor.command import run

    # Another run may be writing the log.
    settings = _settings(options, log=False)
    return OK if settings is None or run(settings, as_json=options.json) else FAILED


def _replay(options: argparse.Namespace) -> int:
    from realtime_mer.wiring import replay

    settings = _settings(options)
    return OK if settings is None or replay(options.recording, settings, fast=options.fast) else FAILED


def _predict(options: argparse.Namespace) -> int:
    from realtime_mer.batch.command import run_predict

    n_skipped = run_predict(
        options.files,
        output=options.output,
        table_format=options.format,
        model=load_settings(None, _given_settings(options)).model,
        plot=options.plot,
        jobs=options.jobs,
    )
    return FAILED if n_skipped else OK


def _view(options: argparse.Namespace) -> int:
    from realtime_mer.viewer.command import Wish, view

    view(
        options.source,
        Wish(options.export, options.at, options.mode, options.theme, options.size),
        load_settings(None, _given_settings(options)).model,
    )
    return OK


def _osc_monitor(options: argparse.Namespace) -> int:
    from realtime_mer.osc_monitor import command as osc_monitor

    # Ctrl-C is its usual end.
    with contextlib.suppress(KeyboardInterrupt):
        osc_monitor.run(
            options.host,
            options.port,
            multicast=options.multicast,
            tcp=options.tcp,
            plain=options.plain,
            seconds=options.seconds,
        )
    return OK


def _settings(options: argparse.Namespace, *, log: bool = True) -> LiveSettings | None:
    """The settings of the file and the command line. With --print-config it prints them and returns None.

    log: whether to begin the log of these settings.
    """
    given = vars(options)
    settings = load_settings(given.get("config"), _given_settings(options))
    if not given.get("print_config"):
        if log:
            begin_log(settings)
        return settings
    # TOML is UTF-8, whatever the terminal is.
    sys.stdout.flush()
    sys.stdout.buffer.write(settings_toml(settings).encode())
    return None


def _given_settings(options: argparse.Namespace) -> dict[str, object]:
    """The options that override a key of the settings."""
    return {key: value for key, value in vars(options).items() if "." in key}


def _number(kind: type[Number], lowest: Number, highest: Number, expected: str) -> Callable[[str], Number]:
    """An argument's type: a number in this range. expected: the same in words."""

    def parse(text: str) -> Number:
        with contextlib.suppress(ValueError):
            if lowest <= (number := kind(text)) <= highest:
                return number
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")

    return parse


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch("([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 1920x1080, got {text!r}")
    return int(match[1]), int(match[2])


def _profile_target(text: str) -> str:
    return text if "@" in text else f"{text}@"


def _latency(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _channels(text: str) -> list[int]:
    """Channels such as 1,2 or 3-4 or 1,5-8."""
    channels: list[int] = []
    for part in text.split(","):
        match = re.fullmatch("([0-9]{1,3})(?:-([0-9]{1,3}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise argparse.ArgumentTypeError(f"expected channels such as 1,2 or 3-4, counted from 1, got {text!r}")
        channels += range(first, last + 1)
    return channels
