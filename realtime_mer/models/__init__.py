"""From frames of features to predictions: the architectures, their checkpoint, and the recogniser that runs one."""
