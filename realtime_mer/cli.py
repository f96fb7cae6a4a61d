"""The command `realtime-mer`: its arguments, what they start, and how it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from realtime_mer import __version__
from realtime_mer.checkpoint import CheckpointError, default_checkpoint_path
from realtime_mer.extraction import AudioFileError
from realtime_mer.features import FeatureEngineError
from realtime_mer.predict import OutputError, UsageError, run_predict
from realtime_mer.workers import default_jobs

_OK, _FAILED, _MISUSED, _INTERRUPTED, _PIPE_CLOSED = 0, 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments (the process's own where None) and returns its exit code.

    0 where all went well, 1 where something failed, 2 for a wrong use, 130 after Ctrl-C, 141 (as a program that SIGPIPE
    ends) where whoever read the standard output has closed it.
    """
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
    except UsageError as error:
        return _fail(error, _MISUSED)
    except (AudioFileError, CheckpointError, FeatureEngineError, OutputError) as error:
        return _fail(error, _FAILED)
    except KeyboardInterrupt:
        print("realtime-mer: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="realtime-mer",
        description="Real-time music-emotion recognition: sound in, valence and arousal out, twice a second.",
    )
    parser.add_argument("--version", action="version", version=f"realtime-mer {__version__}")
    parser.set_defaults(run=lambda _options: _print_help(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    predict = commands.add_parser(
        "predict",
        help="predict audio files as fast as possible",
        description="Predicts valence and arousal of audio files, exactly as they would be predicted live: "
        "one row every 0.5 s, from 1.0 s on, with the time at which that row would be known.",
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
        "--checkpoint",
        type=Path,
        default=default_checkpoint_path(),
        metavar="PATH",
        help="the model to use (default: the one that comes with realtime-mer)",
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
    return parser


def _print_help(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return _MISUSED


def _predict(options: argparse.Namespace) -> int:
    n_skipped = run_predict(
        options.files,
        output=options.output,
        table_format=options.format,
        checkpoint_path=options.checkpoint,
        plot=options.plot,
        jobs=options.jobs,
    )
    return _FAILED if n_skipped else _OK


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return number


def _fail(error: Exception, code: int) -> int:
    print(f"realtime-mer: error: {error}", file=sys.stderr)
    return code
