"""The built-in piece as a source: in real time, with sound if this machine has an output, or as fast as possible."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from realtime_mer.demo.instruments import RATE_HZ
from realtime_mer.demo.piece import Movement, movements, render
from realtime_mer.sources import Capture
from realtime_mer.sources.devices import DeviceError
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.paced import PacedSource
from realtime_mer.sources.player import SoundPlayer
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

_NAME = "the built-in piece"
_PIECE_SAMPLES = RATE_HZ // 2
# Beyond this, what was played but not read is dropped, in blocks of 10 ms: as with a sound card.
_MOST_WAITING_SAMPLES = 4 * RATE_HZ
_BLOCK_SAMPLES = RATE_HZ // 100


class DemoSource:
    """The built-in piece. `start` renders it in a thread; it begins with the first `read` after that.

    With sound, `read` returns what the output has taken, so what is heard and what is analysed cannot drift apart.
    Without an output, or if it goes away, the piece goes on silently by the monotonic clock, and `detail` says why.

    loop: start again at its end. fast: without sound, as fast as it is read.
    `pause` and `resume` may be called by any thread and pause the sound too.
    """

    overflows = 0
    interrupted_by_pause = False
    replaced_samples = 0

    def __init__(self, *, loop: bool, sound: bool, fast: bool = False) -> None:
        self._loop, self._fast = loop, fast
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._rendering: Future[FloatArray] | None = None
        self._piece: FloatArray | None = None
        self._player = SoundPlayer(self._blocks, RATE_HZ) if sound and not fast else None
        # Provides it when there is no sound.
        self._silent: PacedSource | None = None
        self._given_samples = 0
        self._dropped_blocks = 0
        self._paused = self._ended = False

    @property
    def name(self) -> str:
        return _NAME

    @property
    def state(self) -> SourceState:
        if self._ended:
            return SourceState.ENDED
        if self._rendering is None:
            return SourceState.OPENING
        return SourceState.PAUSED if self._paused else SourceState.RUNNING

    @property
    def detail(self) -> str:
        movement = self.movement
        fault = "" if self._player is None else self._player.fault
        sound = f"Without sound: {fault}" if fault else "Without sound." if self._player is None else "With sound."
        return f"Now {movement.mood}: “{movement.name}”. {sound}"

    @property
    def movement(self) -> Movement:
        """The movement of the last sample read."""
        all_of_them = movements()
        time_s = max(self._given_samples - 1, 0) / RATE_HZ % all_of_them[-1].end_s
        return next(movement for movement in all_of_them if time_s < movement.end_s)

    @property
    def dropped_blocks(self) -> int:
        return self._dropped_blocks

    def start(self) -> None:
        renderer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="demo renderer")
        self._rendering = renderer.submit(self._render)
        renderer.shutdown(wait=False)
        if self._player is not None:
            with contextlib.suppress(DeviceError):
                self._player.open()

    def read(self) -> Capture | None:
        with self._lock:
            if self._ended or self._rendering is None or not self._rendering.done():
                return None
            if self._piece is None:
                self._piece = self._rendering.result()
                if self._player is not None:
                    self._player.play(0.0)
            if self._player is not None and not self._player.fault:
                return self._read_played(self._piece, self._player)
            return self._read_silently(self._piece)

    def pause(self) -> None:
        """Stops the sound and what is read until `resume`. Harmless if it is paused."""
        with self._lock:
            self._paused = True
            for player in (self._player, self._silent):
                if player is not None:
                    player.pause()

    def resume(self) -> None:
        """Goes on where `pause` stopped it. Harmless if it is not paused."""
        with self._lock:
            self._paused = False
            for player in (self._player, self._silent):
                if player is not None:
                    player.resume()

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            self._ended = True
            if self._player is not None:
                self._player.close()

    def _render(self) -> FloatArray:
        """On the 24-bit grid, so that what is played, what is analysed and what a recording holds are the same."""
        rendered = []
        for samples in render():
            rendered.append(on_grid(samples)[0])
            if self._closing.is_set():
                break
        return np.concatenate(rendered)

    def _blocks(self, from_s: float) -> Generator[FloatArray, None, None]:
        assert self._piece is not None
        for capture in _captures(self._piece, round(from_s * RATE_HZ), loop=self._loop):
            yield capture.samples

    def _read_played(self, piece: FloatArray, player: SoundPlayer) -> Capture | None:
        """What the output has taken since the last read."""
        played_s, at_s = player.given
        played_samples = round(played_s * RATE_HZ)
        too_late = -(-(played_samples - self._given_samples - _MOST_WAITING_SAMPLES) // _BLOCK_SAMPLES)
        n_dropped_blocks = max(too_late, 0)
        self._dropped_blocks += n_dropped_blocks
        self._given_samples += n_dropped_blocks * _BLOCK_SAMPLES
        first = self._given_samples % len(piece)
        n_samples = min(played_samples - self._given_samples, _PIECE_SAMPLES, len(piece) - first)
        if n_samples == 0:
            return None
        self._given_samples += n_samples
        self._ended = not self._loop and self._given_samples == len(piece)
        captured_s = at_s - (played_samples - self._given_samples) / RATE_HZ
        samples = piece[first : first + n_samples]
        return Capture(samples, RATE_HZ, 0, n_dropped_blocks * _BLOCK_SAMPLES, captured_s)

    def _read_silently(self, piece: FloatArray) -> Capture | None:
        """What is due by the clock."""
        if self._silent is None:
            pieces = partial(_captures, piece, self._given_samples % len(piece), loop=self._loop)
            self._silent = PacedSource(_NAME, pieces, fast=self._fast)
            self._silent.start()
            if self._paused:
                self._silent.pause()
        capture = self._silent.read()
        self._ended = self._silent.state is SourceState.ENDED
        if capture is not None:
            self._given_samples += len(capture.samples)
        return capture


def _captures(piece: FloatArray, first: int, *, loop: bool) -> Generator[Capture, None, None]:
    while True:
        for start in range(first, len(piece), _PIECE_SAMPLES):
            yield Capture(piece[start : start + _PIECE_SAMPLES], RATE_HZ, 0, 0, None)
        first = 0
        if not loop:
            return
