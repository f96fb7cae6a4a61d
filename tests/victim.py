"""A process with little memory and a time limit that reads hostile files.

As a program it reads lines of JSON, the name of a function below and a path, and answers each with a line: `read`,
`refused: WHY` for one of the project's own exceptions, or `broken: WHAT` for any other. A process that ends or takes
too long is noticed from outside.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Beyond what the libraries take. The largest file read as a whole is a checkpoint, of 64 MiB.
MEMORY_BYTES = 512 * 2**20
PATIENCE_S = 30.0
# Of a sound file: faults appear by then.
_MOST_BLOCKS = 200


class Victim:
    """The process; it is started with the first file, and again after it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def reads(self, kind: str, path: Path) -> str:
        """What it answered. Raises AssertionError where it broke, ended or did not answer."""
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        process.stdin.flush()
        try:
            answer = self._answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            self.close()
            raise AssertionError(f"{kind}: no answer within {PATIENCE_S} s") from None
        if not answer:
            code = process.wait()
            self.close()
            raise AssertionError(f"{kind}: the process ended with code {code}")
        assert not answer.startswith("broken: "), f"{kind}: {answer}"
        return answer.strip()

    def close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._answers = queue.SimpleQueue()
            answers = self._answers
            self._process = process = subprocess.Popen(
                [sys.executable, __file__],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

            def listen() -> None:
                assert process.stdout is not None
                for line in process.stdout:
                    answers.put(line)
                answers.put("")

            threading.Thread(target=listen, daemon=True).start()
        return self._process


def checkpoint(path: Path) -> None:
    from realtime_mer.models.checkpoint import load_checkpoint

    load_checkpoint(path)


def recording(path: Path) -> None:
    from realtime_mer.recording.reader import read_recording, read_segment
    from realtime_mer.viewer.loading import take_of_recording

    found = read_recording(path)
    assert all(segment.path.parent == path for segment in found.segments)
    take_of_recording(found)
    for segment in found.segments:
        for _ in itertools.islice(read_segment(segment), _MOST_BLOCKS):
            pass


def sound(path: Path) -> None:
    from realtime_mer.features.extraction import ExtractionSettings, extract_stream
    from realtime_mer.sources.reading import read_blocks

    for _ in extract_stream(itertools.islice(read_blocks(path), _MOST_BLOCKS), ExtractionSettings()):
        pass


def blocks(path: Path) -> None:
    """Without the features, of which many channels at a high rate take their time."""
    from realtime_mer.sources.reading import read_blocks

    for _ in itertools.islice(read_blocks(path), 5):
        pass


def source(path: Path) -> None:
    from realtime_mer.sources.file import FileSource
    from realtime_mer.updates import SourceState

    played = FileSource(path, loop=False, fast=True)
    played.start()
    for _ in range(_MOST_BLOCKS):
        if played.state is SourceState.ENDED:
            break
        played.read()
    played.close()


def settings(path: Path) -> None:
    from realtime_mer.config import load_settings

    load_settings(path, {})


def profile(path: Path) -> None:
    from realtime_mer.config import load_settings

    load_settings(None, {"osc.targets": [{"profile": str(path)}]})


def deam(path: Path) -> None:
    from train.deam import load_deam

    load_deam(path).summary()


def features(path: Path) -> None:
    from train.deam import read_features_csv

    read_features_csv(path)


def remembered(path: Path) -> None:
    from realtime_mer.window.remembered import recall

    recall(path)


def packet(path: Path) -> None:
    from realtime_mer.osc.control import read_commands

    read_commands(path.read_bytes())


KINDS: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (
        *(checkpoint, recording, sound, blocks, source, settings, profile, deam, features, remembered, packet),
    )
}


def _answer(kind: str, path: Path, refusals: tuple[type[Exception], ...]) -> str:
    try:
        KINDS[kind](path)
    except refusals as error:
        # A full sentence; below DEAM's stands a list of what it is about.
        text = str(error)
        ends_well = (first := text.partition("\n")[0]).endswith((".", ".)", "?")) and len(first) < 3_000
        return f"refused: {text}" if ends_well else f"broken: not worth reading: {text[:500]!r}"
    # Report everything.
    except BaseException as error:  # noqa: BLE001
        return f"broken: {type(error).__name__}: {str(error)[:500]}"
    return "read"


def main() -> None:
    from realtime_mer.config import ConfigError
    from realtime_mer.errors import CheckpointError
    from realtime_mer.models.checkpoint import load_checkpoint
    from realtime_mer.models.packaged import default_checkpoint_path
    from realtime_mer.osc.messages import PacketError
    from realtime_mer.recording import RecordingError
    from realtime_mer.sources import SourceError
    from realtime_mer.sources.reading import AudioFileError
    from train.deam import DeamError

    # Whatever is loaded late is loaded now.
    load_checkpoint(default_checkpoint_path())
    importlib.import_module("realtime_mer.sources.ffmpeg")
    if sys.platform != "win32":
        import resource

        statm = Path("/proc/self/statm")
        if statm.exists():
            limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    refusals = (CheckpointError, ConfigError, AudioFileError, PacketError, RecordingError, SourceError, DeamError)
    out = os.fdopen(os.dup(1), "w")
    # The libraries that decode sound write words of their own to both.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    for line in sys.stdin:
        kind, path = json.loads(line)
        print(" ".join(_answer(kind, Path(path), refusals).split()), file=out, flush=True)


if __name__ == "__main__":
    main()
