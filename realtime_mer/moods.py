"""The four quadrants of the valence-arousal plane: their numbers and what they are called."""

from __future__ import annotations

# The signs of valence and arousal, and two everyday words for what music there sounds like, the plainer one first.
# Ours, not a scale's: they name a quadrant, no point in it.
QUADRANT_WORDS = {
    (-1, 1): ("tense", "angry"),
    (1, 1): ("happy", "exuberant"),
    (-1, -1): ("sad", "gloomy"),
    (1, -1): ("calm", "tender"),
}
# Numbered as in mathematics, counter-clockwise from where both are positive.
QUADRANTS = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1)}
