"""What realtime-mer costs: latency, CPU, memory and start-up of the real command, measured on this machine.

    python -m benchmarks.latency    # from sound to OSC, beside a rolling buffer that is extracted anew every 0.5 s
    python -m benchmarks.cpu        # without a view, with the terminal view: processor and memory
    python -m benchmarks.startup    # to the first captured sample, and to the first prediction
    python -m benchmarks.osc        # how evenly it comes to several targets, and what that takes
    python -m benchmarks.all        # these four, into results/cost.md
    python -m benchmarks.display    # the window: pictures a second, processor, and memory over hours
    python -m benchmarks.headroom   # how late predictions are beside busy programs
    python -m benchmarks.soak       # hours of music as fast as it goes: what is lost, doubled or left behind
    python -m benchmarks.renewal    # what a new openSMILE engine changes

Run from a checkout, on Linux, with PulseAudio (pulseaudio, pactl, paplay, parec) and a folder of music. Nothing is
heard, and the machine's own sound server is left alone. Nothing else should run meanwhile.
"""
