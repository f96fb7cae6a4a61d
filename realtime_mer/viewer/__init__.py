"""Shows a recording or an audio file as it looked live: in a window, or as a picture or a video."""
