"""The feature cache: what it computes once, and how it handles broken files, broken entries and Ctrl-C."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from in_process import run_in_process
from rich.console import Console

from train import features_cache
from train.features_cache import Extraction, FeatureCacheError, extract_songs

Frames = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Counted:
    """Settings of the small extractor below: a factor, and a file that gets a line for every call."""

    factor: float
    log: Path

    @property
    def calls(self) -> list[str]:
        return sorted(self.log.read_text().split()) if self.log.exists() else []


def extract_bytes(path: Path, settings: Counted) -> Frames:
    """The file's bytes as features, two per frame; some contents cause a failure."""
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


@pytest.fixture(autouse=True)
def _without_workers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "slow" not in request.keywords:
        monkeypatch.setattr(features_cache, "run_in_workers", run_in_process)


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
def test_everything_is_computed_once(tmp_path: Path, counted: Counted) -> None:
    """And a crash in a worker costs one file."""
    crash, *paths = audio_files(
        tmp_path / "audio", {"crash": b"crash", **{f"{i}.wav": bytes([i, i, 7, i]) for i in range(5)}}
    )
    first = run([*paths, crash], counted, jobs=2)
    assert list(first.features) == paths
    assert first.n_cached == 0
    (failure,) = first.failures
    assert failure.path == crash
    assert "died" in failure.reason
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(first.features[path].values, [[2 * i, 2 * i], [14, 2 * i]])
        np.testing.assert_array_equal(first.features[path].frame_start_s, [0.0, 0.5])
        assert first.features[path].values.dtype == np.float32
    assert len(entries(counted)) == 5

    second = run(paths, counted)
    assert second.n_cached == 5
    assert counted.calls == [*(path.name for path in paths), "crash"]
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


def test_after_ctrl_c_finished_files_stay_in_the_cache(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/test_workers.py checks that the workers end."""
    paths = audio_files(tmp_path / "audio", {"a": b"ab", "b": b"cd", "c": b"ef"})
    parts: list[Path] = []

    def interrupted(job: Any, items: Iterable[tuple[str, Path]], jobs: int) -> Iterator[Any]:
        yield from run_in_process(job, list(items)[:2], jobs)
        parts.extend(job.cache_dir / f"x.{run}.part" for run in (job.run, "of-another-run"))
        for part in parts:
            part.touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(features_cache, "run_in_workers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(paths, counted)
    assert [part.exists() for part in parts] == [False, True]
    assert run(paths, counted).n_cached == 2
    assert counted.calls == ["a", "b", "c"]


def test_a_cache_that_cannot_be_written_stops_the_run(tmp_path: Path, counted: Counted) -> None:
    paths = audio_files(tmp_path / "audio", {name: name.encode() for name in ("aa", "bb", "cc")})
    with pytest.raises(FeatureCacheError, match=r"cache .*/aa cannot be created: File exists"):
        extract_songs(paths, extract_bytes, counted, "a", cache_dir=paths[0], jobs=1)
    # A folder in the place of the entry: permissions would not stop root.
    (tmp_path / "cache" / f"{features_cache._key(paths[0], 'a')}.npz" / "in the way").mkdir(parents=True)
    with pytest.raises(FeatureCacheError, match="cannot be written: Is a directory"):
        run(paths, counted)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_jobs_and_progress(tmp_path: Path, counted: Counted) -> None:
    with pytest.raises(ValueError, match="at least one job, not 0"):
        run([], counted, jobs=0)
    nothing = run([], counted)
    assert (dict(nothing.features), nothing.failures, nothing.n_cached) == ({}, (), 0)
    paths = audio_files(tmp_path / "audio", {name: name.encode() for name in ("aa", "bb", "cc")})
    output = io.StringIO()
    cache_dir = tmp_path / "cache"
    extract_songs(paths, extract_bytes, counted, "a", cache_dir=cache_dir, jobs=1, console=Console(file=output))
    assert "Extracting features" in output.getvalue()
    assert "3/3" in output.getvalue()
