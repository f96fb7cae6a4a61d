"""`realtime-mer predict`: writes a table of predictions for each audio file."""

from __future__ import annotations

import contextlib
import json
import os
import unicodedata
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from realtime_mer import __version__
from realtime_mer.atomic import write_atomically
from realtime_mer.batch.folder import LeftOut, search
from realtime_mer.batch.plotting import can_plot, trajectory_png
from realtime_mer.config import ModelSettings
from realtime_mer.endings import write_stdout
from realtime_mer.errors import OutputError, UsageError, printable
from realtime_mer.live.input_faults import low_rate_note
from realtime_mer.models.packaged import chosen_checkpoint_path
from realtime_mer.sources.reading import AudioFileError, missing_file
from realtime_mer.types import Prediction
from realtime_mer.workers import WorkerCrashedError, run_in_workers

if TYPE_CHECKING:
    from realtime_mer.models.checkpoint import Checkpoint

TableFormat = Literal["csv", "json"]

_CRASHED = "its process died, from a crash in a library or for lack of memory"


@dataclass(frozen=True, slots=True)
class Job:
    """One file to predict. table: where its predictions go, None for standard output. plot: its plot, if any."""

    audio: Path
    table: Path | None
    plot: Path | None

    @property
    def outputs(self) -> list[Path]:
        return [path for path in (self.table, self.plot) if path is not None]


@dataclass(frozen=True, slots=True)
class Predicted:
    """The predictions of a file. note: what is missing in its sound, in a sentence; "" if nothing is."""

    predictions: list[Prediction]
    note: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file without predictions, and the reason, as a sentence that names the file."""

    reason: str


def run_predict(
    inputs: Sequence[Path],
    *,
    output: Path | None,
    table_format: TableFormat,
    model: ModelSettings,
    plot: bool,
    jobs: int,
) -> int:
    """Predicts every file and writes its table; returns how many audio files were skipped or left out.

    Progress, the reasons for skipped files and a closing line that accounts for all files go to standard error.
    Raises UsageError, CheckpointError and OutputError, if possible before any work.
    """
    try:
        plan, left_out = plan_jobs(inputs, output, table_format, plot=plot)
    # From pathlib: a name that is too long, a loop of links, a folder without permission.
    except (OSError, RuntimeError) as error:
        raise UsageError(f"One of the names cannot be used: {error}.") from error
    if plot and not can_plot():
        raise UsageError(
            "--plot needs matplotlib, which is not installed. In the same environment: pip install matplotlib"
        )
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    n_skipped = 0
    for_stdout = ""
    with contextlib.ExitStack() as opened:
        progress = opened.enter_context(_progress(console))
        task = progress.add_task("Loading the model", total=len(plan))
        # Late, so that the bar is there before: these imports take a while.
        from realtime_mer.models.checkpoint import load_checkpoint

        checkpoint_path = chosen_checkpoint_path(model)
        checkpoint = load_checkpoint(checkpoint_path)
        _prepare_outputs(plan)
        facts = {"name": checkpoint.model_name, "checkpoint": checkpoint_path.name, "realtime_mer_version": __version__}
        progress.update(task, description="Predicting")
        outcomes = predict_all([job.audio for job in plan], checkpoint, jobs, model.predictions_hz)
        opened.enter_context(contextlib.closing(outcomes))
        job_of = {job.audio: job for job in plan}
        for audio, outcome in outcomes:
            if isinstance(outcome, Skipped):
                console.print(f"realtime-mer: skipped: {printable(outcome.reason)}")
                n_skipped += 1
            else:
                job, predictions = job_of[audio], outcome.predictions
                if outcome.note:
                    console.print(f"realtime-mer: {printable(f'{audio}: {outcome.note}')}")
                table = csv_table(predictions) if table_format == "csv" else json_table(predictions, audio, facts)
                if job.table is not None:
                    _write_file(job.table, table.encode("ascii"))
                else:
                    for_stdout = table
                if job.plot is not None:
                    _write_file(job.plot, trajectory_png(predictions, audio.name))
            progress.advance(task)
    # Only now, since standard output may be the progress bar's terminal.
    write_stdout(for_stdout)
    if len(plan) > 1 or any(path.is_dir() for path in inputs):
        others = f"; left out: {left_out.text()}" if left_out.text() else ""
        console.print(f"realtime-mer: {len(plan) - n_skipped} predicted, {n_skipped} skipped{others}.")
    return n_skipped + len(left_out.audio)


def plan_jobs(
    inputs: Sequence[Path], output: Path | None, table_format: TableFormat, *, plot: bool
) -> tuple[list[Job], LeftOut]:
    """The outputs of each file, and which files of the folders are left out.

    A folder means the audio files in it; a file that is named twice is done once. One file goes to standard output or
    to the file `output`. If `output` is a folder, and for several files or a folder's, the outputs are `<stem>` in it.
    Raises UsageError if there is nothing to do, or two files have the same output.
    """
    audio, left_out = _find_audio(inputs)
    into_folder = len(audio) > 1 or any(path.is_dir() for path in inputs) or (output is not None and output.is_dir())
    if not into_folder:
        stem = audio[0].stem if output is None else output.stem
        beside = Path() if output is None else output.parent
        plan = [Job(audio[0], output, beside / f"{stem}.png" if plot else None)]
    elif output is None:
        raise UsageError("Several files or a folder need --output DIR, where each file gets its own table.")
    elif output.exists() and not output.is_dir():
        raise UsageError(f"Several files or a folder need a folder for --output, but {output} is a file.")
    else:
        plan = [
            Job(path, output / f"{path.stem}.{table_format}", output / f"{path.stem}.png" if plot else None)
            for path in audio
        ]
    _check_outputs(plan)
    return plan, left_out


def predict_all(
    paths: Sequence[Path], checkpoint: Checkpoint, jobs: int, prediction_rate_hz: float
) -> Generator[tuple[Path, Predicted | Skipped], None, None]:
    """Yields every file with its predictions, or why it was skipped, as they finish.

    jobs: how many processes; 1: this one. Close it if it is not read to its end.
    """
    work = partial(_predict_or_skip, checkpoint=checkpoint, prediction_rate_hz=prediction_rate_hz)
    if min(jobs, len(paths)) == 1:
        for path in paths:
            yield path, work(path)
        return
    with contextlib.closing(run_in_workers(work, paths, jobs)) as finished:
        for path, outcome in finished:
            try:
                yield path, outcome.result()
            except WorkerCrashedError:
                yield path, Skipped(f"{path}: {_CRASHED}.")


def csv_table(predictions: Sequence[Prediction]) -> str:
    """A header, and a row for each prediction: seconds at the frame's end, valence, arousal."""
    rows = (f"{p.time_s:.3f},{_rounded(p.valence):.6f},{_rounded(p.arousal):.6f}\n" for p in predictions)
    return "time_s,valence,arousal\n" + "".join(rows)


def json_table(predictions: Sequence[Prediction], audio: Path, model: dict[str, str]) -> str:
    """One JSON object on one line: the file, the model, and the predictions, rounded as in the CSV."""
    rows = [
        {"time_s": round(p.time_s, 3), "valence": _rounded(p.valence), "arousal": _rounded(p.arousal)}
        for p in predictions
    ]
    return json.dumps({"file": str(audio), "model": model, "predictions": rows}, allow_nan=False) + "\n"


def _rounded(value: float) -> float:
    # Adding zero turns a minus zero into zero.
    return round(value, 6) + 0.0


def _find_audio(inputs: Sequence[Path]) -> tuple[list[Path], LeftOut]:
    """Every file once, and what is left out. A file that is named itself is not left out."""
    found: dict[Path, Path] = {}
    left_out = LeftOut()
    for given in inputs:
        paths = [given]
        if given.is_dir():
            paths, others = search(given)
            left_out += others
        for path in paths:
            found.setdefault(path.resolve(), path)
    return list(found.values()), left_out.without(found)


def _check_outputs(plan: Sequence[Job]) -> None:
    """Raises UsageError if an output is also an input, or two files have the same output."""
    inputs = {_key(job.audio) for job in plan}
    source_of: dict[str, Path] = {}
    for job in plan:
        for target in job.outputs:
            if _key(target) in inputs:
                raise UsageError(f"{target} is one of the files to predict: writing the result there would destroy it.")
            other = source_of.setdefault(_key(target), job.audio)
            if other is not job.audio:
                raise UsageError(
                    f"{other} and {job.audio} would both give {target}. "
                    "Rename one of them, or predict them one by one with different --output."
                )
        if len(set(map(_key, job.outputs))) < len(job.outputs):
            raise UsageError(f"The table and the plot would both be {job.plot}. Give --output another suffix.")


def _key(path: Path) -> str:
    """Equal for paths that may be one file: many file systems ignore case, or how an accent is encoded."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()


def _prepare_outputs(plan: Sequence[Job]) -> None:
    """Makes the outputs' folders. Raises OutputError if an output obviously cannot be written."""
    for target in (target for job in plan for target in job.outputs):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise IsADirectoryError("it is a folder")
            if not os.access(target if target.exists() else target.parent, os.W_OK):
                raise PermissionError("permission denied")
        except OSError as error:
            raise _not_written(target, error) from error


def _predict_or_skip(path: Path, checkpoint: Checkpoint, prediction_rate_hz: float) -> Predicted | Skipped:
    # Late, as in run_predict.
    from realtime_mer.live.session import process_file

    try:
        if not path.exists():
            return Skipped(_why_not_there(path))
        predictions, rate_hz = [], None
        for part in process_file(path, checkpoint, prediction_rate_hz):
            predictions += [update.prediction for update in part.updates]
            rate_hz = part.rate_hz
        return Predicted(predictions, low_rate_note(rate_hz))
    except AudioFileError as error:
        return Skipped(str(error))
    except Exception as error:  # noqa: BLE001 - any exception of a decoder or the extraction from a broken file
        message = isinstance(error, OSError | RuntimeError | ValueError) and str(error)
        return Skipped(f"{path}: {message or f'{type(error).__name__}: {error}'}")


def _why_not_there(path: Path) -> str:
    if str(path) == "-":
        return "-: predict reads files, not standard input: save the sound as a file, or use realtime-mer --input -"
    return missing_file(path)


def _write_file(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}.")


def _progress(console: Console) -> Progress:
    return Progress(
        # Shows from the start, and within a long file, that it works.
        SpinnerColumn("line"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        # It would be noise in a file.
        disable=not console.is_terminal,
        transient=True,
        # Otherwise rich sends all output to standard error, the bar's console.
        redirect_stdout=False,
        redirect_stderr=False,
    )
