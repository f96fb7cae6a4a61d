"""The session: the same updates however the sound is cut, whatever was lost, and `predict`'s for the same sound."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints import music, small_checkpoint
from contract import SessionStage, verify_contract
from predictions import with_prediction

from realtime_mer.config import ConfigError, LevelMeterSettings, ModelSettings
from realtime_mer.features.engine import FeatureEngineError
from realtime_mer.features.renewal import RenewingEngine
from realtime_mer.live.session import Session, predict_file
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import chosen_checkpoint_path, default_checkpoint_path
from realtime_mer.recording import Beginning
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.types import FloatArray
from realtime_mer.updates import LevelState, Update

RATE_HZ = 44_100
SETTINGS = LevelMeterSettings()


def captures(samples: FloatArray, sizes: Sequence[int], segment: int = 0, rate_hz: int = RATE_HZ) -> Iterable[Capture]:
    start, i = 0, 0
    while start < len(samples):
        size = sizes[i % len(sizes)]
        yield Capture(samples[start : start + size], rate_hz, segment, 0, None)
        start, i = start + size, i + 1


def updates_of(heard: Iterable[Capture], settings: LevelMeterSettings = SETTINGS) -> list[Update]:
    session = Session(small_checkpoint(), settings)
    updates = [update for capture in heard for update in session.process(capture)]
    return updates + session.end_segment()


def on_the_grid(samples: FloatArray) -> FloatArray:
    return on_grid(samples)[0]


@pytest.fixture(scope="module")
def tune() -> FloatArray:
    return on_the_grid(music(4.0, n_channels=2))


@pytest.fixture(scope="module")
def whole(tune: FloatArray) -> list[Update]:
    return updates_of(captures(tune, [len(tune)]))


@pytest.mark.parametrize("sizes", [[64], [441], [1, 4_410, 997], [16_384]])
def test_cutting_changes_nothing(sizes: list[int], tune: FloatArray, whole: list[Update]) -> None:
    assert updates_of(captures(tune, sizes)) == whole


def test_the_streaming_contract_sample_by_sample() -> None:
    checkpoint = small_checkpoint()
    verify_contract(lambda: SessionStage(Session(checkpoint, SETTINGS), 8_000), music(2.1, 8_000, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("rate_hz", "n_channels", "calibrated"), [(44_100, 1, True), (48_000, 2, False)])
def test_the_streaming_contract_in_ragged_chunks(rate_hz: int, n_channels: int, calibrated: bool) -> None:
    checkpoint = small_checkpoint("live", calibrated=calibrated)
    verify_contract(
        lambda: SessionStage(Session(checkpoint, SETTINGS), rate_hz), music(2.1, rate_hz, n_channels), one_by_one=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("prediction_rate_hz", [2.0, 10.0, 20.0])
def test_the_open_model_keeps_the_contract_at_every_rate(prediction_rate_hz: float) -> None:
    checkpoint = load_checkpoint(chosen_checkpoint_path(ModelSettings("open")))
    verify_contract(
        lambda: SessionStage(Session(checkpoint, SETTINGS, prediction_rate_hz=prediction_rate_hz), 48_000),
        music(2.13, 48_000, 2),
        one_by_one=False,
    )


@pytest.mark.parametrize("prediction_rate_hz", [4.0, 10.0, 20.0])
def test_at_every_rate_the_updates_at_half_seconds_are_those_at_2_hz(prediction_rate_hz: float) -> None:
    checkpoint = load_checkpoint(chosen_checkpoint_path(ModelSettings("open")))
    tune = on_the_grid(music(3.0))
    # Rests of less than half a second and of more, and a silence after which the model starts afresh.
    sound = np.concatenate([tune[: round(2.3 * RATE_HZ)], quiet(0.3), tune, quiet(0.9), tune, quiet(3.0), tune])

    def at(rate_hz: float) -> list[Update]:
        with contextlib.closing(Session(checkpoint, SETTINGS, prediction_rate_hz=rate_hz)) as session:
            return session.process(Capture(sound, RATE_HZ, 0, 0, None)) + session.end_segment()

    expected, updates = at(2.0), at(prediction_rate_hz)
    assert len(updates) > 0.4 * prediction_rate_hz * len(expected)
    assert [update.index for update in updates] == list(range(len(updates)))
    at_half_seconds = {update.time_s: update for update in updates}
    assert [replace(at_half_seconds[update.time_s], index=update.index) for update in expected] == expected
    assert {update.held for update in expected} == {True, False}


def test_a_model_with_a_state_or_openSMILE_predicts_twice_a_second_only() -> None:  # noqa: N802
    with pytest.raises(ConfigError, match=r"model\.rate_hz: expected 2 .*, got 10"):
        Session(small_checkpoint(), SETTINGS, prediction_rate_hz=10.0)


def test_the_updates_are_what_predict_says_of_the_file(tune: FloatArray, whole: list[Update], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tune.flac", (tune * 2.0**23).astype(np.int32) << 8, RATE_HZ, subtype="PCM_24")
    predicted = predict_file(tmp_path / "tune.flac", small_checkpoint())
    assert [update.prediction for update in whole] == predicted
    assert [update.index for update in whole] == list(range(len(predicted)))
    assert len(whole) == 6
    assert not any(update.held for update in whole)


def test_a_new_segment_begins_afresh_while_time_and_index_go_on(tune: FloatArray, whole: list[Update]) -> None:
    other_rate = on_the_grid(music(3.0, rate_hz=48_000))
    heard = [*captures(tune, [999]), *captures(other_rate, [480], 1, 48_000), *captures(tune, [10_000], 2)]
    updates = updates_of(heard)
    alone = updates_of(captures(other_rate, [48_000], 1, 48_000))
    expected = [
        *whole,
        *(later(update, 4.0, len(whole)) for update in alone),
        *(later(update, 7.0, len(whole) + len(alone)) for update in whole),
    ]
    assert updates == expected


def test_dropped_sound_takes_its_time_but_moves_nothing_before_it(tune: FloatArray, whole: list[Update]) -> None:
    first, second = tune[: 2 * RATE_HZ], tune[2 * RATE_HZ :]
    heard = [Capture(first, RATE_HZ, 0, 0, None), Capture(second, RATE_HZ, 0, RATE_HZ // 2, None)]
    session = Session(small_checkpoint(), SETTINGS)
    updates = [update for capture in heard for update in session.process(capture)] + session.end_segment()
    assert [u.time_s for u in updates] == [1.0, 1.5, 2.0, 3.0, 3.5, 4.0]
    assert values(updates) == values(whole)
    assert (session.dropped_s, session.time_s) == (0.5, 4.5)


def quiet(duration_s: float) -> FloatArray:
    """Hiss at -80 dBFS."""
    hiss = 1e-4 * np.random.default_rng(0).normal(size=(round(duration_s * RATE_HZ), 1))
    return on_the_grid(hiss.astype(np.float32))


def later(update: Update, time_s: float, n_updates: int) -> Update:
    """The same update, this much later and after this many others."""
    return with_prediction(replace(update, index=update.index + n_updates), time_s=update.time_s + time_s)


def values(updates: Iterable[Update]) -> list[tuple[float, float]]:
    return [(update.prediction.valence, update.prediction.arousal) for update in updates]


@pytest.mark.parametrize("sizes", [[4_096], [1, 997], [500_000]])
def test_in_silence_the_prediction_holds_and_what_comes_after_it_is_heard_afresh(sizes: list[int]) -> None:
    tune = on_the_grid(music(3.0))
    alone = updates_of(captures(tune, sizes))
    updates = updates_of(captures(np.concatenate([quiet(3.0), tune, quiet(3.0), tune]), sizes))
    assert [update.index for update in updates] == list(range(len(updates)))
    assert np.all(np.diff([update.time_s for update in updates]) > 0.0)
    music_times_s = [update.time_s for update in updates if not update.held]
    # The last frame of the second tune is cut off by the end.
    assert music_times_s == [4.0, 4.5, 5.0, 5.5, 6.0, 10.0, 10.5, 11.0, 11.5]
    assert values(u for u in updates if 4.0 <= u.time_s <= 5.5) == values(alone)[:4]
    assert values(u for u in updates if 10.0 <= u.time_s <= 11.5) == values(alone)
    assert set(values(u for u in updates if u.time_s < 4.0)) == {(0.0, 0.0)}
    held = [u for u in updates if 6.0 < u.time_s < 10.0]
    assert len(held) >= 5
    assert set(values(held)) == set(values(u for u in updates if u.time_s == 6.0))


@pytest.mark.parametrize(
    ("end_s", "last_whole_s"), [(3.0, 3.0), (3.02, 3.0), (3.25, 3.0), (3.4, 3.0), (3.48, 3.5), (3.5, 3.5)]
)
def test_what_holds_is_of_a_frame_that_is_music_to_its_end(end_s: float, last_whole_s: float) -> None:
    """A frame of which the last tenth of a second is music in part counts as one."""
    tune = on_the_grid(music(4.0))[: round(end_s * RATE_HZ)]
    sound = np.concatenate([tune, quiet(3.0)])
    updates = updates_of(captures(sound, [4_096]))
    assert updates == updates_of(captures(sound, [1, 997, 30_000]))
    (last_whole,) = (update for update in updates if update.time_s == last_whole_s)
    held = [update for update in updates if update.held]
    assert [update.time_s for update in held] == [u.time_s for u in updates if u.time_s >= end_s + 0.5]
    assert set(values(held)) == set(values([last_whole]))
    assert {(u.quadrant, u.prediction.valence_sd, u.prediction.confidence) for u in held} == {
        (last_whole.quadrant, last_whole.prediction.valence_sd, last_whole.prediction.confidence)
    }
    assert len(set(values(updates))) >= 5, "they differ"


@pytest.mark.parametrize("song", [1043, 237, 1293])
def test_where_real_music_stops_the_lights_stay_where_it_was(song: int, deam_root: Path) -> None:
    path = deam_root / f"audio_long/{song}.ogg"
    samples, rate_hz = soundfile.read(path, 10 * 48_000, dtype="float32", always_2d=True)
    stop = round(8.02 * rate_hz)
    sound = on_the_grid(np.concatenate([samples[:stop], np.zeros((2 * rate_hz, samples.shape[1]), np.float32)]))
    session = Session(load_checkpoint(default_checkpoint_path()), SETTINGS)
    updates = session.process(Capture(sound, rate_hz, 0, 0, None)) + session.end_segment()
    held = [update for update in updates if update.held]
    assert len(held) >= 2
    assert set(values(held)) == set(values(u for u in updates if u.time_s == 8.0))


def test_of_a_short_sound_its_only_prediction_holds() -> None:
    updates = updates_of(captures(np.concatenate([on_the_grid(music(0.8)), quiet(1.5)]), [4_096]))
    assert [(u.time_s, u.held) for u in updates] == [(1.0, False), (1.5, True), (2.0, True)]
    assert len(set(values(updates))) == 1
    assert values(updates)[0] != (0.0, 0.0)


def test_of_notes_with_rests_between_them_every_frame_is_music() -> None:
    """Each frame ends in a rest; what holds in the end is of one of the last of them."""
    notes = on_the_grid(music(4.0))
    notes[np.arange(len(notes)) % (RATE_HZ // 2) >= 0.3 * RATE_HZ] = 0.0
    updates = updates_of(captures(np.concatenate([notes, quiet(1.5)]), [4_096]))
    assert [update.time_s for update in updates if not update.held] == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    held = [update for update in updates if update.held]
    assert [update.time_s for update in held] == [4.5, 5.0]
    assert set(values(held)) == set(values(u for u in updates if u.time_s == 3.5))


def test_a_general_pause_ends_nothing() -> None:
    tune = on_the_grid(music(3.0))
    sound = np.concatenate([tune, quiet(1.9), tune])
    updates = updates_of(captures(sound, [4_096]))
    never_silent = updates_of(captures(sound, [4_096]), LevelMeterSettings(silence_db=-100.0, quiet_db=-99.0))
    assert [update.time_s for update in updates] == [update.time_s for update in never_silent]
    assert [update.time_s for update in updates if update.held] == [3.5, 4.0, 4.5]
    assert values(u for u in updates if not u.held) == values(
        v for u, v in zip(updates, never_silent, strict=True) if not u.held
    )


def test_after_an_error_a_fresh_engine_goes_on_where_one_had_worked(
    tune: FloatArray, whole: list[Update], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    assert not session.recover(), "there is nothing to go on with"
    updates = session.process(Capture(tune, RATE_HZ, 0, 0, None))
    while len(updates) < 2:
        updates += session.wait(1.0)

    def fail(_engine: RenewingEngine, _samples: FloatArray) -> None:
        raise FeatureEngineError("openSMILE stopped.")

    with monkeypatch.context() as patch:
        patch.setattr(RenewingEngine, "write", fail)
        with pytest.raises(FeatureEngineError):
            session.process(Capture(tune[:441], RATE_HZ, 0, 0, None))
    assert session.recover()
    again = session.process(Capture(tune, RATE_HZ, 0, 0, None)) + session.end_segment()
    assert values(again) == values(whole), "a fresh engine and model"
    assert again[0].index == len(updates)
    assert again[0].time_s == pytest.approx(4.01 + 1.0)


def test_an_engine_that_never_gave_anything_is_not_started_again(tune: FloatArray) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    session.process(Capture(tune[:4_410], RATE_HZ, 0, 0, None))
    assert not session.recover()
    session.close()


def test_the_backlog_is_what_the_engine_has_not_answered_yet(tune: FloatArray) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    assert session.backlog_s == 0.0
    updates = session.process(Capture(tune, RATE_HZ, 0, 0, None))
    assert session.backlog_s == 4.0 - (updates[-1].time_s if updates else 0.0)
    while len(updates) < 5:
        updates += session.wait(1.0)
    assert session.backlog_s == 4.0 - updates[-1].time_s
    session.end_segment()
    assert session.backlog_s == 0.0


def test_drops_at_the_end_of_a_stretch_take_their_time_too(tune: FloatArray) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    session.process(Capture(tune, RATE_HZ, 0, 0, None))
    session.process(Capture(tune[:1], RATE_HZ, 0, RATE_HZ, None))
    session.end_segment()
    assert session.time_s == pytest.approx(5.0, abs=1e-4)


def test_a_session_can_begin_where_another_one_was(tune: FloatArray, whole: list[Update]) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    assert session.beginning == Beginning(0, 0.0, (0.0, 0.0)) == Beginning()
    heard = [*captures(tune, [4_410]), *captures(quiet(1.3), [997], 1)]
    updates = [update for capture in heard for update in session.process(capture)]
    with pytest.raises(ValueError, match="can only begin with a segment"):
        _ = session.beginning
    updates += session.end_segment()
    beginning = session.beginning
    assert beginning == Beginning(len(updates), session.time_s, values(whole)[-1])
    then = [*captures(quiet(2.0), [4_410], 4), *captures(tune, [441], 9)]
    there = Session(small_checkpoint(), SETTINGS, beginning=beginning)
    expected, again = (
        # The quadrant begins afresh; a recording holds none.
        [
            (update.index, update.time_s, update.prediction.valence, update.prediction.arousal, update.held)
            for update in [update for capture in then for update in one.process(capture)] + one.end_segment()
        ]
        for one in (session, there)
    )
    assert again == expected
    assert expected[0][-1], "held"
    assert there.beginning == session.beginning


def test_after_its_end_a_segment_goes_on_no_more(tune: FloatArray) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    session.process(Capture(tune, RATE_HZ, 0, 0, None))
    session.end_segment()
    with pytest.raises(ValueError, match="Segment 0 has ended"):
        session.process(Capture(tune, RATE_HZ, 0, 0, None))


def test_latency_is_told_where_the_capture_had_a_time(tune: FloatArray) -> None:
    import time

    begun_s = time.monotonic()
    heard = [replace(capture, captured_s=time.monotonic()) for capture in captures(tune, [4_410])]
    latencies_s = [update.latency_s for update in updates_of(heard)]
    assert all(latency_s is not None for latency_s in latencies_s)
    longest_s = time.monotonic() - begun_s
    assert all(0.0 < latency_s <= longest_s for latency_s in latencies_s if latency_s is not None)


def test_level_and_time_are_those_of_what_was_heard(tune: FloatArray) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    assert (session.level, session.rate_hz, session.time_s, session.gain_db) == (None, None, 0.0, 0.0)
    session.process(Capture(tune[:RATE_HZ], RATE_HZ, 0, 0, None))
    assert session.level is not None
    assert session.level.state is LevelState.MUSIC
    assert (session.rate_hz, session.time_s) == (RATE_HZ, 1.0)
    assert session.gain_db != 0.0
    session.close()


def test_a_segment_too_short_for_a_frame(tune: FloatArray) -> None:
    assert updates_of(captures(tune[: RATE_HZ // 2], [4_410])) == []
    assert updates_of([]) == []


def test_waiting_gives_the_updates_that_come_late(tune: FloatArray, whole: list[Update]) -> None:
    session = Session(small_checkpoint(), SETTINGS)
    updates = session.process(Capture(tune, RATE_HZ, 0, 0, None))
    for _ in range(1_000):
        if len(updates) >= len(whole) - 1:
            break
        updates += session.wait(0.05)
    # The last frame needs more sound than there is, or the end.
    assert updates == whole[: len(updates)]
    assert len(updates) >= len(whole) - 1
    assert updates + session.end_segment() == whole


def test_closing_ends_its_thread_and_can_be_repeated(tune: FloatArray) -> None:
    before = threading.active_count()
    for _ in range(3):
        session = Session(small_checkpoint("mlp"), SETTINGS)
        session.process(Capture(tune, RATE_HZ, 0, 0, None))
        session.close()
        session.close()
    assert threading.active_count() == before


def test_too_short_empty_and_broken_files(tmp_path: Path) -> None:
    checkpoint = small_checkpoint("mlp")
    soundfile.write(tmp_path / "short.wav", music(1.0), 44_100)
    soundfile.write(tmp_path / "empty.wav", np.empty((0, 1)), 44_100)
    for name in ("short.wav", "empty.wav"):
        with pytest.raises(AudioFileError, match=rf"{name} is too short: the first prediction needs 1\.05 s of audio"):
            predict_file(tmp_path / name, checkpoint)
    soundfile.write(tmp_path / "enough.wav", music(1.06), 44_100)
    assert [prediction.time_s for prediction in predict_file(tmp_path / "enough.wav", checkpoint)] == [1.0]
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("text.wav", "nowhere.wav"):
        with pytest.raises(AudioFileError, match=f"{name} cannot be read as audio"):
            predict_file(tmp_path / name, checkpoint)
