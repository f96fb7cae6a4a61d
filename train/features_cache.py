"""Features of many audio files: extracted on all cores, once per content and configuration, and kept on disk.

An entry's name is the SHA-256 of the audio file's bytes and of a text that describes everything else that the features
depend on (configuration, source code, library versions). File names and dates do not matter, so an entry is never
stale. Entries are never removed here; the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import platformdirs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from realtime_mer.types import FloatArray
from realtime_mer.workers import WorkerCrashedError, default_jobs, run_in_workers

TimeArray = npt.NDArray[np.float64]
Settings = TypeVar("Settings")
Extractor = Callable[[Path, Settings], tuple[TimeArray, FloatArray]]

# An entry is written to a file with this suffix, and renamed when it is complete.
_PART_SUFFIX = ".part"
_READ_BYTES = 1 << 20
_CRASHED = "the process that extracted it died, from a crash in a library or for lack of memory"


class FeatureCacheError(RuntimeError):
    """The cache folder cannot be used."""


@dataclass(frozen=True, eq=False)
class Features:
    """The frames of one audio file.

    frame_start_s: float64, shape (n,), from the file's first sample; values: float32, shape (n, n_features).
    """

    frame_start_s: TimeArray
    values: FloatArray


@dataclass(frozen=True)
class Failure:
    """An audio file without features, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Extraction:
    """The features by file, the files without any, and how many were cached; in the order of the request."""

    features: Mapping[Path, Features]
    failures: tuple[Failure, ...]
    n_cached: int


def default_cache_dir() -> Path:
    """The features folder in the user's cache folder."""
    return platformdirs.user_cache_path("realtime-mer") / "features"


def extract_songs(
    audio_files: Sequence[Path],
    extract: Extractor[Settings],
    settings: Settings,
    configuration: str,
    *,
    cache_dir: Path | None = None,
    jobs: int | None = None,
    console: Console | None = None,
) -> Extraction:
    """The features of every file, from the cache or else from `extract(path, settings)`.

    extract: a function of a module (worker processes import it), returning frame_start_s (n,) and values
        (n, n_features) in finite numbers. An exception becomes a Failure of that file and does not stop the others.
    configuration: everything that the features depend on besides the audio, including `settings` and the code of
        `extract`.
    cache_dir: by default default_cache_dir(). jobs: worker processes, by default default_jobs().
    console: for the progress bar, by default standard error.

    Ctrl-C ends the workers and raises KeyboardInterrupt; a later call continues after the last finished file. Call it
    from a program that is safe to import (`if __name__ == "__main__":`), since worker processes are spawned.

    Raises FeatureCacheError if the cache folder cannot be written, ValueError for jobs < 1.
    """
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"Extraction needs at least one job, not {jobs}.")
    cache_dir = default_cache_dir() if cache_dir is None else cache_dir
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatureCacheError(
            f"The feature cache {cache_dir} cannot be created: {error.strerror or error}."
        ) from error
    keys: dict[Path, str] = {}
    features: dict[str, Features] = {}
    missing: dict[str, Path] = {}
    unreadable: dict[Path, str] = {}
    failed: dict[str, str] = {}
    with _progress(console) as progress:
        task = progress.add_task("Looking for cached features", total=len(audio_files))
        for path in audio_files:
            try:
                keys[path] = key = _key(path, configuration)
            except OSError as error:
                unreadable[path] = f"it cannot be read: {error.strerror or error}"
            else:
                # Files with the same content share an entry.
                cached = None if key in features or key in missing else _read_entry(cache_dir, key)
                if cached is not None:
                    features[key] = cached
                elif key not in features:
                    missing.setdefault(key, path)
            progress.advance(task)

        if missing:
            task = progress.add_task("Extracting features", total=len(missing))
            job = _Job(extract, settings, configuration, cache_dir, run=uuid.uuid4().hex)
            try:
                with contextlib.closing(run_in_workers(job, missing.items(), min(jobs, len(missing)))) as outcomes:
                    for (key, _), outcome in outcomes:
                        try:
                            reason = outcome.result()
                        except WorkerCrashedError:
                            reason = _CRASHED
                        extracted = _read_entry(cache_dir, key) if reason is None else None
                        if extracted is None:
                            failed[key] = reason or f"its features cannot be read back from {cache_dir}"
                        else:
                            features[key] = extracted
                        progress.advance(task)
            finally:
                for part in cache_dir.glob(f"*.{job.run}{_PART_SUFFIX}"):
                    part.unlink(missing_ok=True)

    found: dict[Path, Features] = {}
    failures = []
    for path in dict.fromkeys(audio_files):
        if path in unreadable:
            failures.append(Failure(path, unreadable[path]))
        elif keys[path] in failed:
            failures.append(Failure(path, failed[keys[path]]))
        else:
            found[path] = features[keys[path]]
    return Extraction(found, tuple(failures), sum(keys[path] not in missing for path in found))


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )


# ---- the entries ------------------------------------------------------------------------------------------------


def _key(path: Path, configuration: str) -> str:
    """SHA-256 over the configuration (its length first, so that it cannot run into the audio) and the file's bytes."""
    text = configuration.encode()
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _entry(cache_dir: Path, key: str) -> Path:
    return cache_dir / f"{key}.npz"


def _read_entry(cache_dir: Path, key: str) -> Features | None:
    """The entry with that key; None if there is none, or if it is damaged (then it is made again)."""
    try:
        with np.load(_entry(cache_dir, key), allow_pickle=False) as arrays:
            frame_start_s, values, stored_key = arrays["frame_start_s"], arrays["values"], str(arrays["key"])
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
    whole = stored_key == key and _fault(frame_start_s, values) is None
    return Features(frame_start_s, values) if whole else None


def _fault(frame_start_s: npt.NDArray[Any], values: npt.NDArray[Any]) -> str | None:
    """What is wrong with a file's features; None if nothing is."""
    if values.ndim != 2 or frame_start_s.shape != values.shape[:1]:
        return f"its features have the shapes {frame_start_s.shape} and {values.shape}, not (n,) and (n, n_features)"
    if not len(values):
        return "too short for one frame"
    broken = np.argwhere(~np.isfinite(values))
    if len(broken):
        frame, feature = broken[0]
        return f"feature {feature} of frame {frame} is {values[frame, feature]}"
    return None


@dataclass(frozen=True)
class _Job(Generic[Settings]):
    """What a worker does with one file. run: identifies the unfinished files of this run."""

    extract: Extractor[Settings]
    settings: Settings
    configuration: str
    cache_dir: Path
    run: str

    def __call__(self, item: tuple[str, Path]) -> str | None:
        """Extracts into the cache; returns None, or the reason for having no features. Raises FeatureCacheError.

        item: the entry's key, and the audio file.
        """
        key, path = item
        try:
            frame_start_s, values = self.extract(path, self.settings)
            frame_start_s, values = np.asarray(frame_start_s, np.float64), np.asarray(values, np.float32)
            if _key(path, self.configuration) != key:
                return "it changed while it was being read"
        except Exception as error:  # noqa: BLE001 - a decoder may raise anything for a broken file
            explained = isinstance(error, OSError | RuntimeError | ValueError) and str(error)
            return str(error) if explained else f"{type(error).__name__}: {error}"
        fault = _fault(frame_start_s, values)
        if fault is not None:
            return fault
        part = self.cache_dir / f"{key}.{self.run}{_PART_SUFFIX}"
        try:
            with part.open("wb") as file:
                np.savez(file, frame_start_s=frame_start_s, values=values, key=np.array(key))
            part.replace(_entry(self.cache_dir, key))
        except OSError as error:
            raise FeatureCacheError(
                f"The feature cache {self.cache_dir} cannot be written: {error.strerror or error}."
            ) from error
        return None
