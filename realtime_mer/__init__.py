"""Real-time music-emotion recognition: sound in, valence and arousal out, twice a second."""

__version__ = "0.1.0"
