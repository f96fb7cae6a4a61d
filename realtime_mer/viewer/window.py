"""The viewer: a take in the live window's views, with a bar to move about in it."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from realtime_mer.sources.player import SoundPlayer
from realtime_mer.viewer.moments import Moments, Take
from realtime_mer.viewer.projector import Projector
from realtime_mer.viewer.scrub import ScrubBar
from realtime_mer.viewer.sound import stereo_blocks
from realtime_mer.window.application import application, faults_reported
from realtime_mer.window.base import ViewWindow, remembered_in
from realtime_mer.window.notices import Notices
from realtime_mer.window.qt import QtWidgets
from realtime_mer.window.shortcuts import VIEWER_KEYS, Action
from realtime_mer.window.theme import Theme
from realtime_mer.window.view import VIEWS, View

_LEAP_S = 10.0
_SOUND_HZ = 48_000


def run_viewer(
    take: Take,
    *,
    mode: str | None,
    theme: str | None,
    at_s: float,
    size_px: tuple[int, int] | None,
    stop: threading.Event,
) -> None:
    """Shows the take until the window is closed or `stop` is set. For the main thread; needs a display.

    mode, theme, size_px: None: as the window was left. at_s: the first moment. A fault in the window is printed once on
    standard error.
    """
    with faults_reported(stop):
        application()
        window = ViewerWindow(take, stop, mode=mode, theme=theme, remembered=remembered_in("viewer.json"))
        window.seek(at_s)
        window.open(size_px)
        window.run_until_closed()


class ViewerWindow(ViewWindow):
    """A take, one moment at a time. mode, theme, remembered: as in ViewWindow.

    position_s: the present moment. playing: whether it goes on. bar: at the bottom, hidden in the stage display.
    """

    def __init__(
        self,
        take: Take,
        stop: threading.Event,
        *,
        mode: str | None = None,
        theme: str | None = None,
        remembered: Path | None = None,
    ) -> None:
        self._moments = Moments(take)
        self._projector = Projector(self._moments)
        self._player = SoundPlayer(partial(stereo_blocks, take, rate_hz=_SOUND_HZ), _SOUND_HZ)
        self._fault_shown = False
        self.bar: ScrubBar
        self.position_s, self.playing = take.start_s, False
        super().__init__(
            stop,
            mode=mode,
            theme=theme,
            remembered=remembered,
            notices=Notices(),
            keys=VIEWER_KEYS,
            actions={
                Action.PAUSE: self._toggle,
                Action.STEP_BACK: lambda: self.seek(self._moments.previous_s(self.position_s)),
                Action.STEP_ON: lambda: self.seek(self._moments.next_s(self.position_s)),
                Action.LEAP_BACK: lambda: self.seek(self.position_s - _LEAP_S),
                Action.LEAP_ON: lambda: self.seek(self.position_s + _LEAP_S),
                Action.START: lambda: self.seek(take.start_s),
                Action.END: lambda: self.seek(take.end_s),
            },
            title=f"realtime-mer: {take.name}",
        )
        self._begin()

    def seek(self, time_s: float) -> None:
        """Goes to a moment; the next picture shows it."""
        self.position_s = self._moments.clamped(time_s)
        if self.playing:
            self._player.play(self.position_s)

    def _new_view(self, theme: Theme) -> View:
        view = VIEWS[self.look.mode](theme, self._keys, self._moments.take.trail_s)
        self._projector.use(view, self.look.span_s)
        self._projector.show(self.position_s)
        return view

    def _parts_below(self, theme: Theme) -> tuple[QtWidgets.QWidget, ...]:
        self.bar = ScrubBar(self._moments, theme)
        self.bar.sought.connect(self.seek)
        self.bar.show_moment(self.position_s, playing=self.playing)
        return () if self._is_stage else (self.bar,)

    def _show_span(self, span_s: float | None) -> None:
        super()._show_span(span_s)
        # The timelines may need more of the past now.
        self._projector.use(self.view, self.look.span_s)

    def _advance(self, elapsed_s: float) -> None:
        if self.playing:
            heard_s = self._player.heard_s()
            self.position_s = self._moments.clamped(self.position_s + elapsed_s if heard_s is None else heard_s)
            self.playing = self.position_s < self._moments.take.end_s
        if self._player.fault and not self._fault_shown:
            self._fault_shown = True
            self._notices.post(f"{self._player.fault} Playing without sound.")
        self._projector.show(self.position_s)
        self.bar.show_moment(self.position_s, playing=self.playing)

    def _at_close(self) -> None:
        self._player.close()
        self._projector.close()

    def _toggle(self) -> None:
        """Plays or pauses; at the end, plays from the start."""
        self.playing = not self.playing
        if not self.playing:
            self._player.stop()
            return
        self.seek(self._moments.take.start_s if self.position_s >= self._moments.take.end_s else self.position_s)
