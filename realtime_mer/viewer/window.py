"""The viewer: a take in the live window's views, with a bar to move about in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from realtime_mer.sources.player import SoundPlayer
from realtime_mer.viewer.moments import Moments, Take
from realtime_mer.viewer.playhead import Playhead
from realtime_mer.viewer.projector import Projector
from realtime_mer.viewer.scrub import ScrubBar
from realtime_mer.viewer.sound import stereo_blocks
from realtime_mer.window.application import application, faults_told
from realtime_mer.window.base import ViewWindow, remembered_in
from realtime_mer.window.notices import Notices
from realtime_mer.window.qt import QtCore, QtWidgets
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
    """Shows the take until the window is closed or `stop` is set. For the main thread, where there is a display.

    mode, theme, size_px: None is as it was left. at_s: the moment that it begins at. A fault in the window is told once
    on standard error.
    """
    with faults_told(stop):
        qt = application()
        window = ViewerWindow(take, stop, mode=mode, theme=theme, remembered=remembered_in("viewer.json"))
        window.seek(at_s)
        window.open(size_px)
        loop = QtCore.QEventLoop()
        window.closed.connect(loop.quit)
        loop.exec_()
        window.deleteLater()
        qt.processEvents()


class ViewerWindow(ViewWindow):
    """A take, one moment at a time. The others: as in ViewWindow."""

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
        actions: dict[Action, Callable[[], object]] = {
            Action.PAUSE: self._toggle,
            Action.STEP_BACK: lambda: self.seek(self._moments.previous_s(self.position_s)),
            Action.STEP_ON: lambda: self.seek(self._moments.next_s(self.position_s)),
            Action.LEAP_BACK: lambda: self.seek(self.position_s - _LEAP_S),
            Action.LEAP_ON: lambda: self.seek(self.position_s + _LEAP_S),
            Action.START: lambda: self.seek(take.start_s),
            Action.END: lambda: self.seek(take.end_s),
        }
        super().__init__(
            stop,
            mode=mode,
            theme=theme,
            remembered=remembered,
            notices=Notices(),
            keys=VIEWER_KEYS,
            actions=actions,
            title=f"realtime-mer: {take.name}",
        )
        self._projector = Projector(self._moments)
        self._playhead = Playhead(take.start_s, take.end_s)
        self._player = SoundPlayer(partial(stereo_blocks, take, rate_hz=_SOUND_HZ), _SOUND_HZ)
        self._told_fault = False
        self._bar: ScrubBar
        self._begin()

    @property
    def position_s(self) -> float:
        """The moment that it is at."""
        return self._playhead.position_s

    @property
    def playing(self) -> bool:
        """Whether it goes on."""
        return self._playhead.playing

    @property
    def bar(self) -> ScrubBar:
        """The bar at its foot, hidden on a stage."""
        return self._bar

    def seek(self, time_s: float) -> None:
        """Goes to a moment; it is shown with the next picture."""
        self._playhead.seek(time_s)
        if self._playhead.playing:
            self._player.play(self._playhead.position_s)

    def _new_view(self, theme: Theme) -> View:
        view = VIEWS[self._look.mode](theme, self._keys, self._moments.take.trail_s)
        self._projector.use(view, self._look.span_s)
        self._projector.show(self.position_s)
        return view

    def _parts_below(self, theme: Theme) -> tuple[QtWidgets.QWidget, ...]:
        self._bar = ScrubBar(self._moments, theme)
        self._bar.sought.connect(self.seek)
        self._bar.setVisible(not self._is_stage)
        self._show_bar()
        return (self._bar,)

    def _show_span(self, span_s: float | None) -> None:
        super()._show_span(span_s)
        # All of what was before may be needed now.
        self._projector.use(self._view, self._look.span_s)

    def _advance(self, elapsed_s: float) -> None:
        self._playhead.advance(elapsed_s, self._player.heard_s())
        if self._player.fault and not self._told_fault:
            self._told_fault = True
            self._notices.post(f"{self._player.fault} Playing without sound.")
        self._projector.show(self.position_s)
        self._show_bar()

    def _at_close(self) -> None:
        self._player.close()
        self._projector.close()

    def _show_bar(self) -> None:
        self._bar.show_moment(self.position_s, playing=self.playing)

    def _toggle(self) -> None:
        self._playhead.toggle()
        if self._playhead.playing:
            self._player.play(self._playhead.position_s)
        else:
            self._player.stop()
