"""Plots the valence and arousal of a music file: python examples/file_to_plot.py song.flac plot.png"""

import sys

import matplotlib.pyplot as plt

import realtime_mer as mer

song, picture = sys.argv[1:]
trajectory = mer.predict(song)

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
for name in ("valence", "arousal"):
    axes.plot(trajectory.time_s, getattr(trajectory, name), label=name)
axes.set(xlabel="time in s", ylim=(-1, 1))
axes.legend()
figure.savefig(picture)
