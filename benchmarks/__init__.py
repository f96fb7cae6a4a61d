"""What realtime-mer costs: latency, CPU, memory and start-up of the real command, measured on this machine.

    python -m benchmarks.latency    # from sound to OSC, beside a rolling buffer that is extracted anew every 0.5 s
    python -m benchmarks.cpu        # without a view, with the terminal view, with the window
    python -m benchmarks.memory     # after 10 and 60 minutes of audio
    python -m benchmarks.startup    # to the first captured sample, and to the first prediction
    python -m benchmarks.all        # all four, into results/cost.md

Run from a checkout, on Linux, with PulseAudio (pulseaudio, pactl, paplay, parec) and a folder of music. Nothing is
heard, and the machine's own sound server is left alone. Nothing else should run meanwhile.
"""
