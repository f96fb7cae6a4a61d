"""Training: DEAM in, a checkpoint and its scores out."""
