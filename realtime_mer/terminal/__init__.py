"""The view in the terminal, and its keys."""
