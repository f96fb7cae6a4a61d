"""The four quadrants of the valence-arousal plane: their numbers and their names."""

from __future__ import annotations

# By the signs of valence and arousal: two everyday words for such music, the plainer one first. They are ours, not from
# a published scale, and name a quadrant, not a point in it.
QUADRANT_WORDS = {
    (-1, 1): ("tense", "angry"),
    (1, 1): ("happy", "exuberant"),
    (-1, -1): ("sad", "gloomy"),
    (1, -1): ("calm", "tender"),
}
# Numbered as in mathematics, counter-clockwise from the one where both are positive.
QUADRANTS = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1)}
