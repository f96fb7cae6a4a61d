"""The sound server of the tests, which are skipped if there is none."""

from __future__ import annotations

import pytest

from benchmarks.sound_server import NoSoundServerError, SoundServer


def start_sound_server() -> SoundServer:
    try:
        return SoundServer()
    except NoSoundServerError as error:
        pytest.skip(f"no sound server: {error}")
