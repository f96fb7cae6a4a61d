"""Latency, CPU, memory and start-up of the real command, measured on this machine.

    python -m benchmarks.latency    # from sound to OSC, compared with a rolling buffer
    python -m benchmarks.cpu        # CPU and memory without a view and with the terminal view
    python -m benchmarks.startup    # to the first captured sample, and to the first prediction
    python -m benchmarks.osc        # timing at several targets, and its cost
    python -m benchmarks.all        # these four, into results/cost.md
    python -m benchmarks.display    # the window: frame rate, CPU, and memory over hours
    python -m benchmarks.headroom   # lateness of predictions while other programs are busy
    python -m benchmarks.soak       # hours of music, faster than real time: is anything lost, or does anything grow
    python -m benchmarks.renewal    # the effect of a new openSMILE engine

Run them from a checkout, on Linux, with PulseAudio (pulseaudio, pactl, paplay, parec) and a folder of music. They make
no sound and do not use the machine's own sound server. Nothing else should run meanwhile.
"""
