from __future__ import annotations

import pytest

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.window.words import RATINGS, mood_words


def test_a_handful_of_words_and_none_that_names_a_quadrant() -> None:
    assert 8 <= len(RATINGS) <= 12
    assert not {words[0] for words in QUADRANT_WORDS.values()} & RATINGS.keys()


def test_the_published_scale_is_mapped_to_the_plane() -> None:
    """1 to 9 to -1 to 1: checked by hand for one word."""
    assert RATINGS["tender"] == (6.47, 3.22)
    assert mood_words()["tender"] == pytest.approx((0.3675, -0.445))
    for word, (valence, arousal) in mood_words().items():
        assert min(RATINGS[word]) >= 1.0
        assert max(RATINGS[word]) <= 9.0
        assert min(valence, arousal) >= -1.0
        assert max(valence, arousal) <= 1.0


def test_there_are_words_in_every_quadrant() -> None:
    for valence_sign, arousal_sign in QUADRANTS.values():
        assert any(v * valence_sign > 0.0 < a * arousal_sign for v, a in mood_words().values())
