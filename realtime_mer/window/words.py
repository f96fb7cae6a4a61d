"""Mood words and where people rated them: from unpleasant to pleasant, and from calm to excited.

The ratings are published ones: the mean valence and arousal that English speakers gave each word, both from
1 to 9, in Warriner, Kuperman and Brysbaert, "Norms of valence, arousal, and dominance for 13,915 English lemmas",
Behavior Research Methods 45, 2013, https://doi.org/10.3758/s13428-012-0314-x (columns V.Mean.Sum and A.Mean.Sum of its
data set; some 20 people rated each). 1 to 9 is mapped linearly to -1 to 1. They are about words, not music.
"""

from __future__ import annotations

CITATION = (
    "Warriner, Kuperman and Brysbaert, “Norms of valence, arousal, and dominance for 13,915 English lemmas”, "
    "Behavior Research Methods 45, 2013, doi:10.3758/s13428-012-0314-x"
)

# Mean valence and arousal, 1 to 9, as published. No word names a quadrant, and no two overlap in the plane.
RATINGS = {
    "angry": (2.53, 6.20),
    "dramatic": (5.17, 6.59),
    "excited": (8.11, 6.43),
    "animated": (6.65, 5.77),
    "joyful": (8.21, 5.53),
    "dreamy": (7.52, 4.90),
    "peaceful": (8.00, 4.38),
    "tender": (6.47, 3.22),
    "sleepy": (4.36, 3.04),
    "bored": (2.95, 3.65),
    "melancholy": (3.74, 4.13),
}


def mood_words() -> dict[str, tuple[float, float]]:
    """Each word's valence and arousal, in [-1, 1]."""
    return {word: ((valence - 5.0) / 4.0, (arousal - 5.0) / 4.0) for word, (valence, arousal) in RATINGS.items()}
