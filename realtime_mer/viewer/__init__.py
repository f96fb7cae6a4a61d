"""What a recording or an audio file looked like live: to move about in, and as a picture or a video."""
