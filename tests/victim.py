"""A process with little memory that reads hostile files.

As a program it reads lines of JSON, the name of a function below and a path, and answers each with a line: `read`,
`refused: WHY` for one of the project's own errors, or `broken: WHAT` for any other exception.
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

from realtime_mer.config import load_settings
from realtime_mer.errors import RealtimeMerError
from realtime_mer.features.extraction import ExtractionSettings, extract_stream
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.osc.control import read_commands
from realtime_mer.osc.messages import PacketError
from realtime_mer.recording.reader import read_recording, read_segment
from realtime_mer.sources.file import FileSource
from realtime_mer.sources.reading import read_blocks
from realtime_mer.updates import SourceState
from realtime_mer.viewer.loading import take_of_recording
from realtime_mer.window.remembered import recall
from train.deam import DeamError, load_deam, read_features_csv

ROOT = Path(__file__).resolve().parents[1]

# In addition to the libraries. The largest file that is read as a whole is a checkpoint, of 64 MiB.
MEMORY_BYTES = 512 * 2**20
PATIENCE_S = 30.0
# Of a sound file: faults appear by then.
_MOST_BLOCKS = 200


class Victim:
    """The process; it starts with the first file, and again after it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read(self, kind: str, path: Path) -> str:
        """Returns its answer. Raises AssertionError if the reader is broken, ends or does not answer."""
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

            def read_answers() -> None:
                assert process.stdout is not None
                for line in process.stdout:
                    answers.put(line)
                answers.put("")

            threading.Thread(target=read_answers, daemon=True).start()
        return self._process


def recording(path: Path) -> None:
    found = read_recording(path)
    assert all(segment.path.parent == path for segment in found.segments)
    take_of_recording(found)
    for segment in found.segments:
        for _ in itertools.islice(read_segment(segment), _MOST_BLOCKS):
            pass


def sound(path: Path) -> None:
    for _ in extract_stream(itertools.islice(read_blocks(path), _MOST_BLOCKS), ExtractionSettings()):
        pass


def source(path: Path) -> None:
    played = FileSource(path, loop=False, fast=True)
    played.start()
    for _ in range(_MOST_BLOCKS):
        if played.state is SourceState.ENDED:
            break
        played.read()
    played.close()


KINDS: dict[str, Callable[[Path], object]] = {
    "checkpoint": load_checkpoint,
    "recording": recording,
    "sound": sound,
    # Without the features, which take long with many channels at a high rate.
    "blocks": lambda path: list(itertools.islice(read_blocks(path), 5)),
    "source": source,
    "settings": lambda path: load_settings(path, {}),
    "profile": lambda path: load_settings(None, {"osc.targets": [{"profile": str(path)}]}),
    "deam": lambda path: load_deam(path).summary(),
    "features": read_features_csv,
    "remembered": recall,
    "packet": lambda path: read_commands(path.read_bytes()),
}


def _answer(kind: str, path: Path) -> str:
    try:
        KINDS[kind](path)
    except (RealtimeMerError, PacketError, DeamError) as error:
        # A full sentence; after DEAM's errors there is a list of details.
        text = str(error)
        ends_well = (first := text.partition("\n")[0]).endswith((".", ".)", "?")) and len(first) < 3_000
        return f"refused: {text}" if ends_well else f"broken: not a sentence: {text[:500]!r}"
    # Report everything.
    except BaseException as error:  # noqa: BLE001
        return f"broken: {type(error).__name__}: {str(error)[:500]}"
    return "read"


def main() -> None:
    # Load now what would be loaded late.
    load_checkpoint(default_checkpoint_path())
    importlib.import_module("realtime_mer.sources.ffmpeg")
    if sys.platform != "win32":
        import resource

        statm = Path("/proc/self/statm")
        if statm.exists():
            limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "w")
    # The libraries that decode sound print messages of their own to both.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    for line in sys.stdin:
        kind, path = json.loads(line)
        print(" ".join(_answer(kind, Path(path)).split()), file=out, flush=True)


if __name__ == "__main__":
    main()
