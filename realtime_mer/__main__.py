"""`python -m realtime_mer` is `realtime-mer`."""

from realtime_mer.cli import run

if __name__ == "__main__":
    run()
