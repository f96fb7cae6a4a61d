"""The instruments of the built-in piece: each returns the sound of one note, or of one line, as samples.

Sounds are mono, float32, at RATE_HZ, with peaks near 1. Noise comes from generators with fixed seeds, so that a note
always sounds the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from realtime_mer.types import FloatArray

RATE_HZ = 44_100

_Float64 = npt.NDArray[np.float64]
_HIGHEST_HZ = 16_000.0
_MODE_COLUMNS = 512
_TABLE_SAMPLES = 2048
# From, to (Hz), and how long this band lasts in the room, beside the lowest.
_ROOM_BANDS = ((150.0, 900.0, 1.0), (900.0, 3000.0, 0.7), (3000.0, 9000.0, 0.35))
_NEPERS_IN_60_DB = 3.0 * math.log(10.0)
_MUSIC_HZ = (200.0, 3000.0)


@dataclass(frozen=True, slots=True)
class Note:
    """One note of a line. start_s, length_s: seconds from the line's start. level: amplitude, 1 is normal."""

    pitch: int
    start_s: float
    length_s: float
    level: float = 1.0


def pitch_hz(pitch: float) -> float:
    """MIDI pitch (60: middle C; 69: 440 Hz) to hertz, equal temperament."""
    return 440.0 * math.exp2((pitch - 69.0) / 12.0)


def samples_in(seconds: float) -> int:
    """The number of samples in so many seconds."""
    return round(seconds * RATE_HZ)


def guitar(pitch: int, length_s: float, brightness: float = 1.0) -> FloatArray:
    """A plucked nylon string: the modes of an ideal string, the higher the sooner gone, and the finger's click.

    brightness: 1 normal; the pluck's spectrum falls by 1/k² · exp(-k/(9 · brightness)).
    """
    fundamental_hz = pitch_hz(pitch)
    k = _harmonics(fundamental_hz, 40)
    plucked_at = 0.23
    amplitude = np.abs(np.sin(np.pi * k * plucked_at)) / k**1.3 * np.exp(-k / (9.0 * brightness))
    decay_s = 1.6 * (220.0 / fundamental_hz) ** 0.4 / (1.0 + 0.16 * (k - 1.0))
    sound = _modes(fundamental_hz * k * np.sqrt(1.0 + 4e-5 * k**2), amplitude, decay_s, samples_in(length_s))
    sound[: samples_in(0.012)] += 0.05 * _noise(pitch, samples_in(0.012), 800.0, 5000.0) * _fall(0.004, 0.012)
    return _peak_at_one(_edges(sound, 0.001, 0.05))


def piano(pitch: int, length_s: float, softness: float = 1.0) -> FloatArray:
    """A hammered string: slightly inharmonic modes that fade fast at first, then slowly. softness: 1 bright, 3 felt."""
    fundamental_hz = pitch_hz(pitch)
    k = _harmonics(fundamental_hz, 36)
    stretched_hz = fundamental_hz * k * np.sqrt(1.0 + 3e-4 * (fundamental_hz / 260.0) * k**2)
    amplitude = np.exp(-(k - 1.0) * 0.20 * softness * (fundamental_hz / 200.0) ** 0.4) / k**0.4
    slow_s = 3.0 * (200.0 / fundamental_hz) ** 0.5 / (1.0 + 0.25 * (k - 1.0))
    both = _modes(
        np.concatenate([stretched_hz, stretched_hz * 1.0004]),
        np.concatenate([0.6 * amplitude, 0.4 * amplitude]),
        np.concatenate([0.3 * slow_s, slow_s]),
        samples_in(length_s),
    )
    n_knock = samples_in(0.05)
    both[:n_knock] += 0.05 / softness * _noise(pitch, n_knock, 150.0, 1500.0) * _fall(0.012, 0.05)
    return _peak_at_one(_edges(both, 0.002 * softness, 0.12))


def electric_piano(pitch: int, length_s: float) -> FloatArray:
    """Two pairs of sines, each pair one modulating the other's phase (Chowning 1973): the tone, and the tine's ping."""
    t = np.arange(samples_in(length_s)) / RATE_HZ
    carrier = 2.0 * np.pi * pitch_hz(pitch) * t
    tone = np.sin(carrier + 0.9 * np.exp(-t / 0.7) * np.sin(1.002 * carrier)) * np.exp(-t / 1.4)
    ping = np.sin(carrier + 0.5 * np.exp(-t / 0.05) * np.sin(14.0 * carrier)) * np.exp(-t / 0.25)
    return _peak_at_one(_edges((tone + 0.4 * ping).astype(np.float32), 0.002, 0.08))


def glockenspiel(pitch: int, length_s: float) -> FloatArray:
    """A struck bar: the modes of a free bar, 1 : 2.76 : 5.40 : 8.93 (Fletcher and Rossing), and the mallet's click."""
    ratio = np.array([1.0, 2.756, 5.404, 8.933])
    hz = pitch_hz(pitch) * ratio
    amplitude = np.array([1.0, 0.35, 0.18, 0.06]) * (hz < _HIGHEST_HZ)
    return _peak_at_one(_edges(_modes(hz, amplitude, 0.9 / ratio, samples_in(length_s)), 0.001, 0.05))


def bass(pitch: int, length_s: float) -> FloatArray:
    """A picked electric bass: a few harmonics, damped when the note ends."""
    k = _harmonics(pitch_hz(pitch), 16)
    amplitude = np.exp(-(k - 1.0) / 3.5) / k**0.3
    return _peak_at_one(
        _edges(_modes(pitch_hz(pitch) * k, amplitude, 1.2 / (1.0 + 0.5 * (k - 1.0)), samples_in(length_s)), 0.003, 0.03)
    )


def ensemble(
    pitch: int,
    length_s: float,
    *,
    attack_s: float,
    release_s: float,
    darkness: float,
    spread_cents: float = 14.0,
    take: int = 0,
) -> FloatArray:
    """Many bowed strings at once: each harmonic is a narrow band of noise (Nasca's PADsynth).

    darkness: the spectrum is k^-darkness. spread_cents: how far the players are apart. take: another one sounds a
    little different, as if it were played again.
    """
    n = fft.next_fast_len(samples_in(length_s), real=True)
    fundamental_hz = pitch_hz(pitch)
    generator = np.random.default_rng([pitch, take])
    spectrum = np.zeros(n // 2 + 1, dtype=np.complex64)
    for k in _harmonics(fundamental_hz, 30):
        centre = fundamental_hz * k * n / RATE_HZ
        width = max(centre * (2.0 ** (spread_cents / 1200.0) - 1.0), 0.5)
        bins = np.arange(max(int(centre - 3.0 * width), 1), min(int(centre + 3.0 * width) + 2, spectrum.size))
        phase = generator.uniform(0.0, 2.0 * np.pi, bins.size)
        profile = np.exp(-0.5 * ((bins - centre) / width) ** 2)
        profile /= np.sqrt(np.sum(profile**2))
        spectrum[bins] += k**-darkness * profile * np.exp(1j * phase)
    sound = fft.irfft(spectrum, n)[: samples_in(length_s)]
    return _level_at_one(sound) * _swell(sound.size, attack_s, release_s)


def spiccato(pitch: int, length_s: float, take: int) -> FloatArray:
    """A section's short, bouncing bow stroke: bright at once, and soon over, with the bow's scratch."""
    strings = ensemble(pitch, length_s, attack_s=0.008, release_s=0.04, darkness=0.95, spread_cents=9.0, take=take)
    scratch = _noise(pitch, samples_in(0.05), 1500.0, 7000.0) * _fall(0.012, 0.05)
    sound = strings * _fall(0.11, length_s)
    sound[: scratch.size] += 0.2 * scratch
    return sound


def tremolo(pitch: int, length_s: float, stroke_s: float) -> FloatArray:
    """A section that bows a note over and over, each stroke of another strength."""
    sound = ensemble(pitch, length_s, attack_s=0.03, release_s=0.03, darkness=1.0)
    stroke = np.arange(sound.size) / (stroke_s * RATE_HZ)
    strength = np.random.default_rng(pitch).uniform(0.6, 1.0, int(stroke[-1]) + 1)
    within = stroke - np.floor(stroke)
    return sound * (strength[stroke.astype(np.int32)] * np.minimum(within / 0.15, 1.2 - within)).astype(np.float32)


def brass(pitch: int, length_s: float, attack_s: float) -> FloatArray:
    """Three horns: the louder, the brighter (Risset 1966), for the higher harmonics' envelopes are steeper."""
    n = samples_in(length_s)
    loudness = _swell(n, attack_s, 0.12)
    sound = np.zeros(n)
    for detune, offset in ((-0.06, 0.1), (0.0, 0.5), (0.05, 0.8)):
        phase = np.asarray(offset + np.arange(n) * (pitch_hz(pitch + detune) / RATE_HZ), dtype=np.float64)
        for first, last, steepness in ((1, 3, 1.0), (4, 8, 2.0), (9, 18, 3.5)):
            k = _harmonics(pitch_hz(pitch), last)
            amplitude = np.where(k >= first, k**-0.9, 0.0)
            sound += loudness**steepness * _look_up(_table(amplitude), phase)
    return _peak_at_one(sound.astype(np.float32))


def cello(notes: Sequence[Note]) -> FloatArray:
    """A solo line, bowed: gliding from note to note, with vibrato and a body's resonances."""
    phase, loudness = _line(notes, glide_s=0.05, vibrato_cents=22.0, vibrato_hz=5.2, attack_s=0.14, legato=0.6)
    centre_hz = pitch_hz(float(np.mean([note.pitch for note in notes])))
    k = _harmonics(centre_hz, 24)
    body = (
        1.0
        + 1.5 * np.exp(-(((centre_hz * k - 300.0) / 150.0) ** 2))
        + np.exp(-(((centre_hz * k - 900.0) / 400.0) ** 2))
    )
    dark = _look_up(_table(body * k**-1.6), phase)
    bright = _look_up(_table(body * k**-1.0), phase)
    return _peak_at_one((loudness * ((1.0 - 0.5 * loudness) * dark + 0.5 * loudness * bright)).astype(np.float32))


def flute(notes: Sequence[Note]) -> FloatArray:
    """A solo line, blown: nearly a sine, with breath in it and a slight vibrato."""
    phase, loudness = _line(notes, glide_s=0.03, vibrato_cents=9.0, vibrato_hz=4.8, attack_s=0.07, legato=0.35)
    tone = _look_up(_table(np.array([1.0, 0.28, 0.12, 0.03, 0.015])), phase)
    breath = _noise(5, phase.size, 700.0, 5000.0)
    return _peak_at_one((loudness * (tone + 0.035 * breath)).astype(np.float32))


def kick() -> FloatArray:
    """A bass drum: a sine that falls from 150 to 48 Hz."""
    t = np.arange(samples_in(0.35)) / RATE_HZ
    phase = 2.0 * np.pi * (48.0 * t + 102.0 * 0.035 * (1.0 - np.exp(-t / 0.035)))
    sound = np.sin(phase) * np.exp(-t / 0.11)
    sound[: samples_in(0.006)] += 0.3 * _noise(1, samples_in(0.006), 1000.0, 8000.0) * _fall(0.002, 0.006)
    return _peak_at_one(_edges(sound.astype(np.float32), 0.0005, 0.05))


def snare() -> FloatArray:
    """A snare drum: the skin's two modes, and the wires' noise."""
    length_s = 0.25
    skin = _modes(np.array([185.0, 330.0]), np.array([1.0, 0.6]), np.array([0.06, 0.04]), samples_in(length_s))
    wires = _noise(2, skin.size, 1500.0, 12_000.0) * _fall(0.07, length_s)
    return _peak_at_one(_edges(0.6 * skin + wires, 0.0005, 0.03))


def clap() -> FloatArray:
    """Hands: four bursts of noise within 30 ms."""
    sound: FloatArray = np.zeros(samples_in(0.25), dtype=np.float32)
    for i, start_s in enumerate((0.0, 0.010, 0.019, 0.028)):
        burst = _noise(10 + i, sound.size - samples_in(start_s), 900.0, 6000.0)
        sound[samples_in(start_s) :] += burst * _fall(0.05 if i == 3 else 0.006, burst.size / RATE_HZ)
    return _peak_at_one(_edges(sound, 0.0005, 0.03))


def hat(open_s: float) -> FloatArray:
    """A hi-hat or shaker: noise above 7 kHz that falls with the time constant open_s."""
    return _peak_at_one(
        _edges(_noise(3, samples_in(5.0 * open_s), 7000.0, _HIGHEST_HZ) * _fall(open_s, 5.0 * open_s), 0.001, 0.01)
    )


def taiko(pitch: int) -> FloatArray:
    """A large drum: a membrane's modes (1 : 1.59 : 2.14 : 2.65 : 2.92), the pitch sinking a little, and the stick."""
    ratio = np.array([1.0, 1.594, 2.136, 2.653, 2.918])
    n = samples_in(0.9)
    sound = _modes(
        pitch_hz(pitch) * ratio, np.array([1.0, 0.7, 0.5, 0.35, 0.25]), np.array([0.25, 0.15, 0.12, 0.09, 0.08]), n
    )
    sound[: samples_in(0.08)] += 0.7 * _noise(4, samples_in(0.08), 200.0, 3500.0) * _fall(0.015, 0.08)
    return _peak_at_one(_edges(sound, 0.0005, 0.1))


def room(length_s: float) -> FloatArray:
    """A room's impulse response, shape (2, n_samples): noise that decays by 60 dB in length_s, faster at the top.

    What is sent into it comes back about as loud.
    """
    n = samples_in(length_s)
    response = np.zeros((2, n), dtype=np.float32)
    for band, (low_hz, high_hz, share) in enumerate(_ROOM_BANDS):
        decay = _fall(share * length_s / _NEPERS_IN_60_DB, length_s) * np.float32(math.sqrt(high_hz - low_hz))
        for channel in range(2):
            response[channel] += decay * _noise(20 + 2 * band + channel, n, low_hz, high_hz)
    low_hz, high_hz = _MUSIC_HZ
    power = np.abs(fft.rfft(response)[:, int(low_hz * n / RATE_HZ) : int(high_hz * n / RATE_HZ)]) ** 2
    delay: FloatArray = np.zeros((2, samples_in(0.018)), dtype=np.float32)
    return np.concatenate([delay, response / np.sqrt(np.mean(power))], axis=1)


def _harmonics(fundamental_hz: float, most: int) -> _Float64:
    """1, 2, 3, … as far as they are audible."""
    return np.arange(1.0, max(min(most, int(_HIGHEST_HZ / fundamental_hz)), 1) + 1.0)


def _modes(hz: _Float64, amplitude: _Float64, decay_s: _Float64, n_samples: int) -> FloatArray:
    """The sum of decaying sines, amplitude · exp(-t/decay) · sin(2π hz t).

    As one product of matrices: z^(row · columns + column) = z^(row · columns) · z^column for each mode's z.
    """
    n_rows = -(-n_samples // _MODE_COLUMNS)
    row_real, row_imaginary = _powers(hz, decay_s, np.arange(n_rows) * _MODE_COLUMNS)
    column_real, column_imaginary = _powers(hz, decay_s, np.arange(_MODE_COLUMNS))
    rows = np.concatenate([amplitude * row_real, amplitude * row_imaginary], axis=1, dtype=np.float32)
    columns = np.concatenate([column_imaginary, column_real], axis=1)
    # Not as a BLAS product: its threads wait for one another, for longer than this takes, where the machine is busy.
    samples: FloatArray = np.einsum("rm,cm->rc", rows, columns).ravel()[:n_samples]
    return samples


def _powers(hz: _Float64, decay_s: _Float64, samples: npt.NDArray[np.int_]) -> tuple[FloatArray, FloatArray]:
    """Real and imaginary part of each mode's z = exp((-1/decay + 2πi hz)/rate) to these powers: (samples, modes)."""
    cycles = np.outer(samples, hz / RATE_HZ)
    angle = (2.0 * np.pi * (cycles - np.floor(cycles))).astype(np.float32)
    size = np.exp(np.outer(samples, -1.0 / (decay_s * RATE_HZ)).astype(np.float32))
    return size * np.cos(angle), size * np.sin(angle)


def _noise(seed: int, n_samples: int, low_hz: float, high_hz: float) -> FloatArray:
    """Noise between two frequencies (half-octave slopes), RMS 1."""
    n = fft.next_fast_len(n_samples, real=True)
    generator = np.random.default_rng(seed)
    spectrum = fft.rfft(generator.standard_normal(n, dtype=np.float32))
    octave = np.log2(np.maximum(np.arange(spectrum.size), 0.5) * (RATE_HZ / n))
    inside = np.clip(1.0 - 2.0 * np.maximum(math.log2(low_hz) - octave, octave - math.log2(high_hz)), 0.0, 1.0)
    return _level_at_one(fft.irfft(spectrum * inside.astype(np.float32), n)[:n_samples])


def _line(
    notes: Sequence[Note],
    *,
    glide_s: float,
    vibrato_cents: float,
    vibrato_hz: float,
    attack_s: float,
    legato: float,
) -> tuple[_Float64, _Float64]:
    """A line's phase in cycles, and its loudness, both shape (n_samples,). The notes follow one another in time.

    legato: how much of the loudness stays between two notes that touch, 0 to 1.
    """
    starts = [samples_in(note.start_s) for note in notes]
    stops = [samples_in(note.start_s + note.length_s) for note in notes]
    # A little more than the notes: smoothing delays their end.
    n = stops[-1] + samples_in(0.05)
    pitch = np.full(n, float(notes[0].pitch))
    loudness = np.zeros(n)
    vibrato = np.zeros(n)
    for i, note in enumerate(notes):
        start, stop = starts[i], stops[i]
        t = np.arange(stop - start) / RATE_HZ
        pitch[start:] = note.pitch
        vibrato[start:stop] = np.clip((t - 0.2) / 0.4, 0.0, 1.0)
        before = legato if start in stops[:i] else 0.0
        after = legato if stop in starts[i + 1 :] else 0.0
        rise, fall = _swell(stop - start, attack_s, 0.0), _swell(stop - start, 0.0, min(0.12, 0.3 * note.length_s))
        loudness[start:stop] = note.level * (before + (1.0 - before) * rise) * (after + (1.0 - after) * fall)
    pitch = _smoothed(pitch, samples_in(glide_s))
    loudness = _smoothed(loudness, samples_in(0.03))
    t = np.arange(n) / RATE_HZ
    pitch += vibrato_cents / 100.0 * _smoothed(vibrato, samples_in(0.03)) * np.sin(2.0 * np.pi * vibrato_hz * t)
    return np.cumsum(440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / RATE_HZ), loudness


def _smoothed(values: _Float64, n_samples: int) -> _Float64:
    """The mean of the last n_samples values; the first value held before the start."""
    total = np.cumsum(np.concatenate([np.full(n_samples, values[0]), values]))
    return np.asarray((total[n_samples:] - total[:-n_samples]) / n_samples)


def _table(amplitude: _Float64) -> _Float64:
    """One cycle with these amplitudes of the harmonics 1, 2, …, RMS 1; its first sample again at the end."""
    spectrum = np.zeros(_TABLE_SAMPLES // 2 + 1, dtype=complex)
    # Phases that spread the energy over the cycle (Schroeder 1970): no click once per cycle.
    k = np.arange(1.0, amplitude.size + 1.0)
    spectrum[1 : amplitude.size + 1] = amplitude * np.exp(-1j * np.pi * k * (k - 1.0) / amplitude.size)
    cycle = np.asarray(fft.irfft(spectrum))
    return np.append(cycle, cycle[0]) / math.sqrt(float(np.mean(cycle**2)))


def _look_up(table: _Float64, phase: _Float64) -> _Float64:
    """The table's cycle read at `phase` cycles, between its samples in a straight line."""
    position = (phase - np.floor(phase)) * _TABLE_SAMPLES
    index = position.astype(np.int32)
    return np.asarray(table[index] + (position - index) * (table[index + 1] - table[index]))


def _fall(decay_s: float, length_s: float) -> FloatArray:
    t: FloatArray = np.arange(samples_in(length_s), dtype=np.float32)
    return np.asarray(np.exp(t * np.float32(-1.0 / (decay_s * RATE_HZ))))


def _swell(n_samples: int, attack_s: float, release_s: float) -> FloatArray:
    """Rises to 1 within attack_s and falls to 0 within the last release_s, along half a cosine."""
    envelope: FloatArray = np.ones(n_samples, dtype=np.float32)
    n_attack, n_release = min(samples_in(attack_s), n_samples), min(samples_in(release_s), n_samples)
    envelope[:n_attack] *= (0.5 - 0.5 * np.cos(np.pi * np.arange(n_attack) / n_attack)).astype(np.float32)
    envelope[n_samples - n_release :] *= (0.5 + 0.5 * np.cos(np.pi * np.arange(n_release) / n_release)).astype(
        np.float32
    )
    return envelope


def _edges(sound: FloatArray, attack_s: float, release_s: float) -> FloatArray:
    """The sound without a click at its start and its end."""
    return sound.astype(np.float32) * _swell(sound.size, attack_s, release_s)


def _peak_at_one(sound: FloatArray) -> FloatArray:
    return np.asarray(sound / np.max(np.abs(sound)))


def _level_at_one(sound: FloatArray) -> FloatArray:
    return np.asarray(sound / np.sqrt(np.mean(sound**2)), dtype=np.float32)
