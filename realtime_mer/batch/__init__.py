"""`realtime-mer predict`: tables of predictions for audio files."""
