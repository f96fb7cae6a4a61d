"""What the four quadrants of the valence-arousal plane are called, the same wherever they stand."""

from __future__ import annotations

# The signs of valence and arousal, and two everyday words for what music there sounds like, the plainer one first.
# Ours, not a scale's: they name a quadrant, no point in it.
QUADRANT_WORDS = {
    (-1, 1): ("tense", "angry"),
    (1, 1): ("happy", "exuberant"),
    (-1, -1): ("sad", "gloomy"),
    (1, -1): ("calm", "tender"),
}
