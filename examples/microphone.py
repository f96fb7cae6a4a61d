"""Runs your own code for each live prediction: python examples/microphone.py [DEVICE], Ctrl-C to end."""

import sys

import realtime_mer as mer


def on_mood(valence: float, arousal: float) -> None:
    """Your own code: lights, music, a game."""
    print(f"valence {valence:+.2f}, arousal {arousal:+.2f}", flush=True)


device = sys.argv[1] if len(sys.argv) > 1 else "default"
try:
    with mer.listen(device) as predictions:
        for prediction in predictions:
            on_mood(prediction.valence, prediction.arousal)
except KeyboardInterrupt:
    pass
except mer.RealtimeMerError as error:
    sys.exit(f"{error}")
