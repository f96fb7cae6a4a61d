"""The feature cache: what it computes once, and how it handles broken files, broken entries and Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from train import features_cache
from train.features_cache import (
    Extraction,
    FeatureCacheError,
    extract_songs,
)

Frames = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Counted:
    """Settings of the small extractor below: what to multiply by, and where every call leaves a line."""

    factor: float
    log: Path

    @property
    def calls(self) -> list[str]:
        return sorted(self.log.read_text().split()) if self.log.exists() else []


def extract_bytes(path: Path, settings: Counted) -> Frames:
    """The file's bytes as features, two per frame; some contents stand for what can go wrong."""
    content = path.read_bytes()
    with settings.log.open("a") as log:
        log.write(f"{path.name}\n")
    if content == b"crash":
        os.abort()
    if content == b"changing":
        path.write_bytes(b"changed!")
    if content == b"broken":
        raise ValueError(f"{path.name} is no audio")
    if content == b"odd":
        raise KeyError("odd")
    values = np.frombuffer(content, np.uint8).reshape(-1, 2).astype(np.float32) * settings.factor
    if content == b"hole":
        values[1, 0] = np.nan
    if content == b"flat":
        values = values[:, 0]
    return 0.5 * np.arange(len(values), dtype=np.float64), values.astype(np.float32)


def extract_forever(path: Path, settings: Path) -> Frames:
    """Returns at once, but never for files named endless…, after writing its process id."""
    if path.name.startswith("endless"):
        (settings / f"{path.name}.pid").write_text(str(os.getpid()))
        time.sleep(600)
    return np.zeros(1), np.ones((1, 2), np.float32)


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(2.0, tmp_path / "calls.log")


def audio_files(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def run(paths: list[Path], settings: Counted, configuration: str = "a", jobs: int = 1) -> Extraction:
    cache_dir = settings.log.parent / "cache"
    console = Console(file=io.StringIO())
    return extract_songs(paths, extract_bytes, settings, configuration, cache_dir=cache_dir, jobs=jobs, console=console)


def entries(settings: Counted) -> list[Path]:
    return sorted((settings.log.parent / "cache").iterdir())


@pytest.mark.slow
def test_everything_once(tmp_path: Path, counted: Counted) -> None:
    paths = audio_files(tmp_path / "audio", {f"{i}.wav": bytes([i, i, 7, i]) for i in range(5)})
    first = run(paths, counted, jobs=2)
    assert list(first.features) == paths
    assert (first.failures, first.n_cached) == ((), 0)
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(first.features[path].values, [[2 * i, 2 * i], [14, 2 * i]])
        np.testing.assert_array_equal(first.features[path].frame_start_s, [0.0, 0.5])
        assert first.features[path].values.dtype == np.float32
    assert counted.calls == [path.name for path in paths]
    assert len(entries(counted)) == 5

    second = run(paths, counted)
    assert second.n_cached == 5
    assert counted.calls == [path.name for path in paths]
    for path in paths:
        np.testing.assert_array_equal(second.features[path].values, first.features[path].values)


def test_content_and_configuration_decide_not_the_name(tmp_path: Path, counted: Counted) -> None:
    one, same, empty = audio_files(tmp_path / "audio", {"one.wav": b"abcd", "same.wav": b"abcd", "empty.wav": b""})
    extraction = run([one, same, one], counted)
    assert counted.calls == ["one.wav"]
    assert list(extraction.features) == [one, same]
    assert extraction.features[one] is extraction.features[same]

    moved = one.rename(one.with_name("moved.wav"))
    assert run([moved], counted).n_cached == 1

    stat = same.stat()
    same.write_bytes(b"abce")
    os.utime(same, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run([same], counted).n_cached == 0

    assert run([moved], counted, configuration="b").n_cached == 0
    assert counted.calls == ["moved.wav", "one.wav", "same.wav"]
    # The end of the configuration cannot be mistaken for the start of the audio.
    assert features_cache._key(moved, "") != features_cache._key(empty, "abcd")


def test_files_without_features_are_failures(tmp_path: Path, counted: Counted) -> None:
    contents = {"good": b"ab", "broken": b"broken", "odd": b"odd", "hole": b"hole", "flat": b"flat", "empty": b""}
    paths = audio_files(tmp_path / "audio", {**contents, "changing": b"changing", "copy": b"broken"})
    missing = tmp_path / "audio" / "missing"
    extraction = run([*paths, missing, tmp_path / "audio"], counted)
    assert list(extraction.features) == paths[:1]
    reasons = {failure.path.name: failure.reason for failure in extraction.failures}
    for name, part in {
        "broken": "broken is no audio",
        "odd": "KeyError: 'odd'",
        "hole": "feature 0 of frame 1 is nan",
        "flat": "shapes (2,) and (2,)",
        "empty": "too short",
        "changing": "changed while",
        "copy": "broken is no audio",
        "missing": "No such file",
        "audio": "Is a directory",
    }.items():
        assert part in reasons.pop(name)
    assert not reasons
    # A failure is not an entry: a file is tried again once it is mended.
    assert len(entries(counted)) == 1
    assert run(paths[:2], counted).n_cached == 1
    assert counted.calls.count("broken") == 2


@pytest.mark.slow
def test_a_crash_costs_one_file(tmp_path: Path, counted: Counted) -> None:
    contents = {"a": b"aa", "crash": b"crash", "b": b"bb", "c": b"cc", "d": b"dd"}
    paths = audio_files(tmp_path / "audio", contents)
    extraction = run(paths, counted, jobs=2)
    (failure,) = extraction.failures
    assert failure.path == paths[1]
    assert "died" in failure.reason
    assert sorted(path.name for path in extraction.features) == ["a", "b", "c", "d"]


def test_damaged_entries_are_made_again(tmp_path: Path, counted: Counted) -> None:
    """Truncated, or with any one byte changed, an entry is refused or still has the same content."""
    (path,) = audio_files(tmp_path / "audio", {"a": b"abcdefgh"})
    expected = run([path], counted).features[path]
    (entry,) = entries(counted)
    whole = entry.read_bytes()
    start = whole.index(expected.values.tobytes())
    flipped = whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :]
    with io.BytesIO() as file:
        np.savez(file, frame_start_s=np.zeros(1), values=np.ones((1, 2)), key=np.array("another key"))
        foreign = file.getvalue()
    for content in (b"", b"PK", whole[:-1], flipped, foreign, b"\x93NUMPY", b"text"):
        entry.write_bytes(content)
        assert features_cache._read_entry(entry.parent, entry.stem) is None
    for at in range(0, len(whole), 5):
        entry.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        found = features_cache._read_entry(entry.parent, entry.stem)
        if found is not None:
            np.testing.assert_array_equal(found.values, expected.values)
            np.testing.assert_array_equal(found.frame_start_s, expected.frame_start_s)
    entry.write_bytes(flipped)
    assert run([path], counted).n_cached == 0
    assert entry.read_bytes() == whole
    assert counted.calls == ["a", "a"]


INTERRUPTED = """
import sys
from pathlib import Path
from test_features_cache import extract_forever
from train.features_cache import extract_songs
if __name__ == "__main__":
    root = Path(sys.argv[1])
    paths = sorted((root / "audio").iterdir(), key=lambda path: path.name.startswith("endless"))
    try:
        extract_songs(paths, extract_forever, root, "a", cache_dir=root / "cache", jobs=2)
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.fixture
def interrupted_run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An extraction in its own session: four files are done, two workers never finish."""
    audio_files(tmp_path / "audio", {name: name.encode() for name in ("a", "b", "c", "d", "endless1", "endless2")})
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    here = Path(__file__).resolve().parent
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    try:
        while len(list(tmp_path.glob("*.pid"))) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        # What a failed test may leave behind: the workers are in the same session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def worker_is_gone(pid_file: Path) -> bool:
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Without an init process that reaps orphans, a dead one remains as a zombie.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and sessions")
def test_ctrl_c_ends_at_once_and_keeps_what_is_done(
    tmp_path: Path, interrupted_run: subprocess.Popen[str], counted: Counted
) -> None:
    part = tmp_path / "cache" / "of-another-run.part"
    part.touch()
    os.killpg(interrupted_run.pid, signal.SIGINT)
    output, errors = interrupted_run.communicate(timeout=60)
    assert output == "interrupted\n"
    assert interrupted_run.returncode == 0
    assert "Traceback" not in errors
    assert all(worker_is_gone(file) for file in tmp_path.glob("*.pid"))
    # Only complete entries; files of another run are left alone.
    assert {entry.suffix for entry in (tmp_path / "cache").iterdir() if entry != part} == {".npz"}
    assert part.exists()

    paths = sorted((tmp_path / "audio").iterdir())
    after = run(paths[:4], counted)
    assert after.n_cached == 4
    assert not counted.calls


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and sessions")
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path, interrupted_run: subprocess.Popen[str]) -> None:
    interrupted_run.kill()
    # Its pipes are the workers', too: they close when the last of them has ended.
    interrupted_run.communicate(timeout=60)
    assert all(worker_is_gone(file) for file in tmp_path.glob("*.pid"))


def test_a_folder_that_cannot_be_used(tmp_path: Path, counted: Counted) -> None:
    (path,) = audio_files(tmp_path / "audio", {"a": b"aa"})
    with pytest.raises(FeatureCacheError, match=r"cache .*/a cannot be created: File exists"):
        extract_songs([path], extract_bytes, counted, "a", cache_dir=path, jobs=1)


def test_an_entry_that_cannot_be_written_stops_the_run(tmp_path: Path, counted: Counted) -> None:
    paths = audio_files(tmp_path / "audio", {name: name.encode() for name in ("aa", "bb", "cc")})
    # A folder in the place of the entry: permissions would not stop root.
    (tmp_path / "cache" / f"{features_cache._key(paths[0], 'a')}.npz" / "in the way").mkdir(parents=True)
    with pytest.raises(FeatureCacheError, match="cannot be written: Is a directory"):
        run(paths, counted)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_jobs(tmp_path: Path, counted: Counted) -> None:
    with pytest.raises(ValueError, match="at least one job, not 0"):
        run([], counted, jobs=0)
    nothing = run([], counted)
    assert (dict(nothing.features), nothing.failures, nothing.n_cached) == ({}, (), 0)


def test_progress_is_shown(tmp_path: Path, counted: Counted) -> None:
    paths = audio_files(tmp_path / "audio", {name: name.encode() for name in ("aa", "bb", "cc")})
    output = io.StringIO()
    cache_dir = tmp_path / "cache"
    extract_songs(paths, extract_bytes, counted, "a", cache_dir=cache_dir, jobs=1, console=Console(file=output))
    assert "Extracting features" in output.getvalue()
    assert "3/3" in output.getvalue()
