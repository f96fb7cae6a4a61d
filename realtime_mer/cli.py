"""The command `realtime-mer`: its arguments, what they start, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from realtime_mer import __version__
from realtime_mer.config import (
    LOG_LEVELS,
    MODES,
    PCM_FORMATS,
    THEMES,
    LiveSettings,
    TargetSettings,
    address_text,
    load_settings,
    settings_toml,
)
from realtime_mer.config.addresses import LARGEST_PORT
from realtime_mer.config.profiles import profile_names
from realtime_mer.endings import FAILED, OK, exit_code, leave
from realtime_mer.log import begin as begin_log


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (the process's own where None) and returns its exit code.

    0 where all went well (a live run or osc-monitor that was ended by Ctrl-C too), 1 where something failed, 2 for a
    wrong use, 130 after Ctrl-C in anything else, 141 (as a program that SIGPIPE ends) where whoever read the standard
    output has closed it.
    """
    options = _parser().parse_args(arguments)
    return exit_code(lambda: options.run(options))


def run() -> NoReturn:
    """The process: `main`, and its end."""
    leave(main())


def _parser() -> argparse.ArgumentParser:
    levels, outputs = _level_options(), _output_options()
    parser = argparse.ArgumentParser(
        prog="realtime-mer",
        description="Real-time music-emotion recognition: sound in, valence and arousal out, twice a second. "
        "Without a command it listens to a sound card until Ctrl-C.",
        parents=[_listening_options(), levels, outputs],
    )
    parser.add_argument("--version", action="version", version=f"realtime-mer {__version__}")
    parser.set_defaults(run=_listen)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="play and follow a built-in piece of music in four moods",
        description="Plays a built-in piece (bright and fast, tense, calm, sad), with sound where there is an output "
        "device, through the whole live pipeline.",
        parents=[levels, outputs],
    )
    demo.add_argument("--loop", action="store_true", help="begin again at its end")
    demo.add_argument("--no-sound", action="store_true", help="only analyse it")
    demo.set_defaults(run=_demo)

    devices = commands.add_parser(
        "devices",
        help="list the inputs, and what to type for each",
        description="Lists this machine's sound inputs, with what to type after --device, and marks those that hear "
        "what is playing.",
    )
    devices.set_defaults(run=_devices)

    doctor = commands.add_parser(
        "doctor",
        help="look whether everything works here, and say what to do where not",
        description="Looks at everything that a run with these options needs, and prints a line for each, with what to "
        "do where something is wrong. Takes some ten seconds, and listens to the input for one. Exit code 1 where a "
        "run would fail.",
        parents=[_listening_options(), levels, outputs],
    )
    doctor.add_argument("--json", action="store_true", help="print it as JSON, for programs")
    doctor.set_defaults(run=_doctor)

    replay = commands.add_parser(
        "replay",
        help="send a recording through the pipeline again, and compare",
        description="Sends what --record recorded through the pipeline again, and checks that every prediction is the "
        "one that was recorded. Exit code 1 where one is not.",
        parents=[outputs],
    )
    replay.add_argument("recording", type=Path, metavar="DIR", help="the folder that --record made")
    replay.add_argument("--fast", action="store_true", help="as fast as possible instead of in real time")
    replay.set_defaults(run=_replay)

    _add_predict(commands)
    _add_view(commands)
    _add_osc_monitor(commands)
    return parser


def _listening_options() -> argparse.ArgumentParser:
    """What to listen to. Options that set a key of the settings are named after it, and absent unless given."""
    defaults = LiveSettings()
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("what to listen to")
    group.add_argument(
        "--device",
        dest="audio.device",
        metavar="DEVICE",
        help="default, an index, or a part of a name, as `realtime-mer devices` lists them",
    )
    group.add_argument("--host-api", dest="audio.host_api", metavar="NAME", help="only devices of this host API")
    group.add_argument(
        "--channels",
        dest="audio.channels",
        type=_channels,
        metavar="LIST",
        help="the device's channels to listen to, such as 1,2 or 3-4 (default: the first two)",
    )
    group.add_argument(
        "--rate", dest="audio.rate_hz", type=_positive, metavar="HZ", help="sample rate (default: the device's own)"
    )
    group.add_argument(
        "--block-size",
        dest="audio.block_samples",
        type=_positive,
        metavar="SAMPLES",
        help="samples per channel in a block, 64 to 16384 (default: 10 ms)",
    )
    group.add_argument(
        "--latency",
        dest="audio.latency",
        type=_latency,
        metavar="S",
        help=f"of the sound card's buffer: low, high, or seconds (default: {defaults.audio.latency})",
    )
    group.add_argument(
        "--input", dest="input.file", metavar="FILE", help="an audio file instead, or - for raw PCM on standard input"
    )
    group.add_argument("--loop", dest="input.loop", action="store_true", help="begin the file again at its end")
    group.add_argument(
        "--fast", dest="input.fast", action="store_true", help="the file as fast as possible, not in real time"
    )
    group.add_argument(
        "--pcm-format",
        dest="input.pcm_format",
        choices=PCM_FORMATS,
        help=f"of standard input (default: {defaults.input.pcm_format})",
    )
    group.add_argument(
        "--pcm-rate",
        dest="input.pcm_rate_hz",
        type=_positive,
        metavar="HZ",
        help=f"of standard input (default: {defaults.input.pcm_rate_hz})",
    )
    group.add_argument(
        "--pcm-channels",
        dest="input.pcm_channels",
        type=_positive,
        metavar="N",
        help=f"of standard input (default: {defaults.input.pcm_channels})",
    )
    return options


def _output_options() -> argparse.ArgumentParser:
    """Where the predictions go, and the settings as a whole."""
    defaults = LiveSettings()
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("where predictions go")
    targets = ", ".join(address_text(target.host, target.port) for target in defaults.osc.targets)
    group.add_argument(
        "--osc",
        dest="osc.targets",
        action="append",
        metavar="[PROFILE@]HOST:PORT",
        help=f"send OSC there; may be given more than once (default: {targets})",
    )
    group.add_argument(
        "--osc-profile",
        dest="osc.targets",
        action="append",
        type=_profile_target,
        metavar="NAME[@HOST[:PORT]]",
        help=f"send OSC as this tool wants it: {', '.join(profile_names())}, or a path that ends in .toml; may be "
        "given more than once, and beside --osc",
    )
    group.add_argument("--no-osc", dest="osc.targets", action="store_const", const=[], help="send no OSC")
    group.add_argument(
        "--osc-delay",
        dest="osc.delay_s",
        type=float,
        metavar="S",
        help=f"send it this much later, 0 to 10 seconds (default: {defaults.osc.delay_s:g})",
    )
    group.add_argument(
        "--osc-query",
        dest="osc.query",
        metavar="[HOST:]PORT",
        help="tell by OSCQuery what is sent, on this port (default: do not)",
    )
    group.add_argument(
        "--control",
        dest="control.listen",
        metavar="[HOST:]PORT",
        help="take commands by OSC on this port, from this computer unless HOST says more (default: take none)",
    )
    group.add_argument(
        "--no-terminal",
        dest="display.terminal",
        action="store_false",
        help="no view in the terminal, which is shown where no window is",
    )
    group.add_argument("--record", dest="recording.directory", metavar="DIR", help="record into this new folder")
    _add_window_options(options, defaults)
    group = options.add_argument_group("the log")
    group.add_argument(
        "--log-file",
        dest="log.file",
        metavar="PATH",
        help="tell what happens there, line by line; - is standard error (default: nowhere)",
    )
    group.add_argument(
        "--log-level", dest="log.level", choices=LOG_LEVELS, help=f"how much of it (default: {defaults.log.level})"
    )
    group = options.add_argument_group("settings")
    group.add_argument(
        "--checkpoint", dest="model.checkpoint", metavar="PATH", help="the model (default: the one that comes with it)"
    )
    group.add_argument("--config", type=Path, metavar="FILE", help="settings, as configs/live.toml describes them")
    group.add_argument("--print-config", action="store_true", help="print the settings in force, and end")
    return options


def _add_window_options(options: argparse.ArgumentParser, defaults: LiveSettings) -> None:
    group = options.add_argument_group("the window")
    group.add_argument("--no-plot", dest="display.plot", action="store_false", help="no window")
    group.add_argument(
        "--mode",
        dest="display.mode",
        choices=MODES,
        help="everything, or the plane alone on a whole screen (default: as it was left)",
    )
    group.add_argument("--theme", dest="display.theme", choices=THEMES, help="its colours (default: as they were left)")
    group.add_argument(
        "--screen",
        dest="display.screen",
        type=_positive,
        metavar="N",
        help="the screen that it is on, counted from 1 (default: as it was left)",
    )
    group.add_argument(
        "--trail",
        dest="display.trail_s",
        type=float,
        metavar="S",
        help=f"the point's trail fades in this time, 1 to 120 seconds (default: {defaults.display.trail_s:g})",
    )
    group.add_argument(
        "--keep-running", dest="display.keep_running", action="store_true", help="closing it does not end the run"
    )


def _level_options() -> argparse.ArgumentParser:
    """What the input's level means; a replay has that from its recording."""
    defaults = LiveSettings().level
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("input level")
    group.add_argument(
        "--silence-db",
        dest="level.silence_db",
        type=float,
        metavar="DBFS",
        help=f"below this the prediction holds (default: {defaults.silence_db:g})",
    )
    group.add_argument(
        "--quiet-db",
        dest="level.quiet_db",
        type=float,
        metavar="DBFS",
        help=f"music below this is reported as too quiet (default: {defaults.quiet_db:g})",
    )
    return options


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from realtime_mer.workers import default_jobs

    predict = commands.add_parser(
        "predict",
        help="predict audio files as fast as possible",
        description="Predicts valence and arousal of audio files, exactly as they would be predicted live: "
        "one row every 0.5 s, from one second after the first sound on, with the end of the second that it is about.",
    )
    predict.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="audio file (wav, flac, mp3, ogg and others; any rate, any number of channels), or a folder of them",
    )
    predict.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="for one file, the file to write (otherwise standard output); for several or a folder, the folder for "
        "one table each, made if need be",
    )
    predict.add_argument(
        "--format", choices=("csv", "json"), default="csv", help="of the tables (default: %(default)s)"
    )
    predict.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="the model to use (default: the one that comes with it)"
    )
    predict.add_argument(
        "--plot", action="store_true", help="also draw each trajectory, as a PNG beside its table (needs matplotlib)"
    )
    predict.add_argument(
        "--jobs",
        type=_positive,
        default=default_jobs(),
        metavar="N",
        help="files to predict at once (default: one for each core, here %(default)s)",
    )
    predict.set_defaults(run=_predict)


def _add_view(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    view = commands.add_parser(
        "view",
        help="show a recording or an audio file again, or make a picture or a video of it",
        description="Shows what --record recorded as it was live, in a window to move about in, with its sound; or an "
        "audio file, which is predicted first. With --export it writes a picture of a moment, or a video of everything "
        "with its sound (which needs ffmpeg), and needs no display.",
    )
    view.add_argument("source", type=Path, metavar="RECORDING", help="the folder that --record made, or an audio file")
    view.add_argument(
        "--export",
        type=Path,
        metavar="PATH",
        help="write it there, as the ending says: a picture (.png, .svg) or a video (.mp4, .mkv, .webm)",
    )
    view.add_argument(
        "--at",
        type=_moment,
        metavar="S",
        help="the moment to show, in seconds (default: the end for a picture, the start for the window)",
    )
    view.add_argument(
        "--mode", choices=MODES, help="everything, or the plane alone (default: operator, and stage for a video)"
    )
    view.add_argument("--theme", choices=THEMES, help="its colours (default: dark)")
    view.add_argument(
        "--size", type=_size, metavar="WxH", help="in pixels (default: 1920x1080, and 1280x720 for the window)"
    )
    view.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="the model for a file (default: the one that comes with it)"
    )
    view.set_defaults(run=_view)


def _add_osc_monitor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = TargetSettings()
    monitor = commands.add_parser(
        "osc-monitor",
        help="show the OSC that arrives on a port",
        description="Shows the OSC that arrives on a port, from this program or any other, with rates and jitter.",
    )
    monitor.add_argument(
        "port",
        nargs="?",
        type=_port,
        default=defaults.port,
        metavar="PORT",
        help="the port to listen on (default: %(default)s)",
    )
    monitor.add_argument(
        "--host",
        default=defaults.host,
        help="this computer's address to listen on; 0.0.0.0 hears other computers too (default: %(default)s)",
    )
    transport = monitor.add_mutually_exclusive_group()
    transport.add_argument("--multicast", metavar="GROUP", help="join this multicast group")
    transport.add_argument("--tcp", action="store_true", help="take TCP connections, framed with SLIP, instead of UDP")
    monitor.add_argument("--plain", action="store_true", help="a line for each message instead of the table")
    monitor.add_argument("--seconds", type=_seconds, metavar="S", help="end after so long (default: at Ctrl-C)")
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

    # No log is begun: another run may be writing it.
    settings = _settings(options, log=False)
    return OK if settings is None or run(settings, as_json=options.json) else FAILED


def _replay(options: argparse.Namespace) -> int:
    from realtime_mer.wiring import replay

    settings = _settings(options)
    return OK if settings is None or replay(options.recording, settings, fast=options.fast) else FAILED


def _predict(options: argparse.Namespace) -> int:
    from realtime_mer.models.checkpoint import chosen_checkpoint_path
    from realtime_mer.predict.command import run_predict

    n_skipped = run_predict(
        options.files,
        output=options.output,
        table_format=options.format,
        checkpoint_path=chosen_checkpoint_path(options.checkpoint),
        plot=options.plot,
        jobs=options.jobs,
    )
    return FAILED if n_skipped else OK


def _view(options: argparse.Namespace) -> int:
    from realtime_mer.viewer.command import view
    from realtime_mer.viewer.export import Wish

    view(
        options.source,
        Wish(options.export, options.at, options.mode, options.theme, options.size),
        options.checkpoint,
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
    """What the settings file and the command line say, with the log begun that they ask for; None where they were only
    to be printed, and now are."""
    given = vars(options)
    settings = load_settings(given.get("config"), {key: value for key, value in given.items() if "." in key})
    if not given.get("print_config"):
        if log:
            begin_log(settings)
        return settings
    # TOML is UTF-8, whatever the terminal is.
    sys.stdout.flush()
    sys.stdout.buffer.write(settings_toml(settings).encode())
    return None


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return number


def _port(text: str) -> int:
    number = int(text) if re.fullmatch("[0-9]{1,5}", text) else 0
    if not 1 <= number <= LARGEST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to {LARGEST_PORT}, not {text!r}")
    return number


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"expected a number of seconds, more than 0, not {text!r}")


def _moment(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (moment_s := float(text)) < math.inf:
            return moment_s
    raise argparse.ArgumentTypeError(f"expected a number of seconds, not {text!r}")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch("([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 1920x1080, not {text!r}")
    return int(match[1]), int(match[2])


def _profile_target(text: str) -> str:
    return text if "@" in text else f"{text}@"


def _latency(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _channels(text: str) -> list[int]:
    """As in 1,2 or 3-4 or 1,5-8."""
    channels: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or not 1 <= int(first) <= int(last or first) <= 999:
            raise argparse.ArgumentTypeError(f"expected channels such as 1,2 or 3-4, counted from 1, not {text!r}")
        channels += range(int(first), int(last or first) + 1)
    return channels
