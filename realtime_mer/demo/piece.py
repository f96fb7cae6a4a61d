"""The built-in piece: four movements with clearly different moods, in the four corners of valence and arousal.

Written for this project. `render` synthesises it, movement by movement, bit for bit the same every time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from realtime_mer.demo.instruments import (
    Note,
    bass,
    brass,
    cello,
    clap,
    electric_piano,
    ensemble,
    flute,
    glockenspiel,
    guitar,
    hat,
    kick,
    piano,
    samples_in,
    snare,
    spiccato,
    taiko,
    tremolo,
)
from realtime_mer.demo.mixing import Mix, limited
from realtime_mer.types import FloatArray

# A movement's last notes and its room ring on for this long in the next one.
_RINGING_S = 2.0
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "b": -1}
# Beat, and 1 for down, from the low strings, -1 for up.
_STRUMS = ((0.0, 1), (1.0, 1), (1.5, -1), (2.5, -1), (3.0, 1), (3.5, -1))


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement: its name, its mood in words, and where it lies in the piece, in seconds."""

    name: str
    mood: str
    start_s: float
    end_s: float


def pitch_of(name: str) -> int:
    """The MIDI pitch of a note such as C4 (middle C, 60), F#4 or Bb3. Raises ValueError for other names."""
    match = re.fullmatch(r"([A-G])([#b]?)(-?\d)", name)
    if match is None:
        raise ValueError(f"expected a note such as C4, F#4 or Bb3, got {name!r}")
    return 12 * (int(match[3]) + 1) + _LETTERS[match[1]] + _ACCIDENTALS[match[2]]


def chord(names: str) -> tuple[int, ...]:
    """The pitches of notes that are separated by spaces."""
    return tuple(pitch_of(name) for name in names.split())


def melody(text: str, beat_s: float) -> tuple[Note, ...]:
    """A line of `note/beats`, one after the other, separated by spaces; `-` is a rest, `|` only helps the reader.

    A note that ends in ' is stressed.
    """
    notes, beat = [], 0.0
    for token in text.replace("|", " ").split():
        name, beats = token.split("/")
        if name != "-":
            stressed = name.endswith("'")
            pitch = pitch_of(name.rstrip("'"))
            notes.append(Note(pitch, beat * beat_s, float(beats) * beat_s, 1.0 if stressed else 0.8))
        beat += float(beats)
    return tuple(notes)


# Beats a minute.
_BRIGHT_TEMPO, _TENSE_TEMPO, _CALM_TEMPO, _SAD_TEMPO = 150.0, 150.0, 104.0, 60.0


def _bright(mix: Mix) -> None:
    """D major: guitar, glockenspiel, flute, brass, bass, drums and hands; ten bars of four."""
    jitter = np.random.default_rng(1)
    beat_s = 60.0 / _BRIGHT_TEMPO
    bar_s = 4.0 * beat_s
    on_d, on_g, on_a = chord("D3 A3 D4 F#4 A4"), chord("G3 B3 D4 G4 B4"), chord("E3 A3 C#4 E4 A4")
    root_of = {on_d: pitch_of("D2"), on_g: pitch_of("G2"), on_a: pitch_of("A1")}
    for bar, pitches in enumerate((on_d, on_g, on_d, on_a, on_d, on_g, on_a, on_d, on_g)):
        start_s = bar * bar_s
        low = root_of[pitches]
        # Beat, direction, chord; and what the bass plays.
        strums = [(beat, direction, pitches) for beat, direction in _STRUMS]
        roots = [(0.0, low), (0.5, low + 12), (1.5, low), (2.0, low + 7), (2.5, low + 12), (3.5, low + 7)]
        if bar == 8:  # G and A share the bar before the end
            strums = [(0.0, 1, on_g), (1.0, -1, on_g), (2.0, 1, on_a), (3.0, -1, on_a)]
            roots = [(0.0, low), (1.0, low), (2.0, low + 2), (3.0, low + 2)]
        for beat, direction, strummed in strums:
            for i, pitch in enumerate(strummed[::direction]):
                at_s = start_s + beat * beat_s + 0.011 * i + jitter.uniform(0.0, 0.004)
                level_db = -21.0 if direction > 0 else -23.0
                mix.play(at_s, guitar, pitch, 0.7, 1.6, level_db=level_db, pan=-0.5, wet=0.12)
                mix.play(at_s + 0.009, guitar, pitch + 12, 0.5, 1.6, level_db=-23.0, pan=0.5, wet=0.12)
        for beat, pitch in roots:
            mix.play(start_s + beat * beat_s, bass, pitch, 0.5 * beat_s, level_db=-6.5)
        for beat in (0.0, 1.5, 2.0):
            mix.play(start_s + beat * beat_s, kick, level_db=3.0)
        for beat in (1.0, 3.0):
            mix.play(start_s + beat * beat_s, snare, level_db=2.0, pan=0.05, wet=0.2)
            mix.play(start_s + beat * beat_s, clap, level_db=0.0, pan=-0.2, wet=0.35)
        for eighth in range(8):
            at_s = start_s + 0.5 * eighth * beat_s
            mix.play(at_s, hat, 0.028, level_db=-8.0 - 4.0 * (eighth % 2), pan=0.35)
            mix.play(at_s + 0.25 * beat_s, hat, 0.018, level_db=-14.0, pan=-0.5)
        for pitch, pan in ((pitches[1] + 12, -0.6), (pitches[3], 0.6)):
            settings = {"attack_s": 0.1, "release_s": 0.2, "darkness": 1.2}
            mix.play(start_s, ensemble, pitch, bar_s, **settings, level_db=-25.0, pan=pan, wet=0.3)
        if bar >= 4:  # the horns join in, between the beats
            for beat, length_beats in ((0.5, 0.5), (1.5, 1.0), (3.5, 0.5)):
                for i, pitch in enumerate(pitches[1:4]):
                    at_s, length_s = start_s + beat * beat_s, 0.9 * length_beats * beat_s
                    mix.play(at_s, brass, pitch + 12, length_s, 0.02, level_db=-8.0, pan=0.1 + 0.2 * i, wet=0.25)
    for beat in (2.0, 2.5, 3.0, 3.25, 3.5, 3.75):  # the fill into the last bar
        mix.play(8.0 * bar_s + beat * beat_s, snare, level_db=-3.0 + beat, wet=0.2)

    theme = melody(
        "F#5'/.5 A5/.5 D6'/1 B5/.5 A5/.5 F#5/1 | G5'/.5 B5/.5 D6'/.5 B5/.5 A5/1 B5/1 |"
        "A5'/.5 F#5/.5 A5/.5 B5/.5 D6'/1 A5/1 | E5'/.5 F#5/.5 A5/.5 B5/.5 C#6'/1 A5/1 |"
        "F#5'/.5 A5/.5 D6'/1 B5/.5 A5/.5 F#5/1 | G5'/.5 B5/.5 D6'/.5 E6/.5 D6/1 B5/1 |"
        "C#6'/.5 B5/.5 A5/.5 B5/.5 C#6'/.5 E6/.5 C#6/1 | D6'/1.5 A5/.5 F#5/1 A5/1 |"
        "B5'/.5 D6/.5 B5/.5 G5/.5 C#6'/.5 E6/.5 C#6/.5 A5/.5 | D6'/2.5",
        beat_s,
    )
    for note in theme:
        level_db = -18.0 if note.level < 1.0 else -16.0
        mix.play(note.start_s, glockenspiel, note.pitch + 12, 1.2, level_db=level_db, pan=0.25, wet=0.4)
    mix.play(0.0, flute, theme, level_db=-11.0, pan=-0.15, wet=0.35)

    end_s = 9.0 * bar_s
    for i, pitch in enumerate(chord("D3 A3 D4 F#4 A4 D5")):
        mix.play(end_s + 0.012 * i, guitar, pitch, 2.5, 1.6, level_db=-13.0, pan=-0.3, wet=0.3)
        mix.play(end_s, brass, pitch, 0.5, 0.02, level_db=-12.0, pan=0.3, wet=0.3)
    mix.play(end_s, bass, pitch_of("D2"), 1.6, level_db=-5.0)
    mix.play(end_s, kick, level_db=4.0)
    mix.play(end_s, hat, 0.4, level_db=-10.0, pan=0.2, wet=0.4)


def _tense(mix: Mix) -> None:
    """Around C with all that grates on it: strings, brass, large drums; eight bars of 3 + 3 + 2 + 2 eighths."""
    jitter = np.random.default_rng(2)
    beat_s = 60.0 / _TENSE_TEMPO
    bar_s = 5.0 * beat_s
    accents = {0: -0.3, 3: 0.3, 6: -0.2, 8: 0.2}  # eighths, and on which side the drum stands
    riff = chord("C3 C3 Db3 C3 Eb3 C3 Gb3 F3 Db3 B2")
    for bar, up in enumerate((0, 0, 0, 0, 1, 1, 3, 3)):
        start_s = bar * bar_s
        growth_db = 0.5 * bar
        for eighth, pitch in enumerate(riff):
            at_s = start_s + 0.5 * eighth * beat_s + jitter.uniform(0.0, 0.006)
            take = eighth % 2
            stress_db = 4.0 if eighth in accents else 0.0
            mix.play(at_s, spiccato, pitch + up, 0.25, take, level_db=-20.0 + stress_db, pan=-0.3, wet=0.3)
            mix.play(at_s, spiccato, pitch + up - 12, 0.25, take, level_db=-18.0 + stress_db, pan=0.3, wet=0.3)
            if bar >= 2:
                between_s = at_s + 0.25 * beat_s
                mix.play(between_s, spiccato, pitch + up, 0.25, take + 2, level_db=-23.0, pan=-0.4, wet=0.3)
            if bar >= 4:
                mix.play(at_s, spiccato, pitch + up + 18, 0.25, take, level_db=-26.0 + stress_db, pan=0.1, wet=0.45)
        for eighth, pan in accents.items():
            drum = 33 if eighth == 0 else 38
            at_s = start_s + 0.5 * eighth * beat_s
            mix.play(at_s, taiko, drum, level_db=2.0 + 0.5 * growth_db, pan=pan, wet=0.45)
        if bar >= 2:
            for sixteenth in range(20):
                at_s = start_s + 0.25 * sixteenth * beat_s
                mix.play(at_s, taiko, 50, level_db=-18.0 + growth_db, pan=0.5, wet=0.3)
        for i, pitch in enumerate(chord("F#4 G4 C#5")):  # a trembling cluster, half a tone up with every second bar
            level_db, pan = -27.0 + growth_db, 0.6 - 0.5 * i
            mix.play(start_s, tremolo, pitch + bar // 2, bar_s, 0.085, level_db=level_db, pan=pan, wet=0.6)
        drone = {"attack_s": 0.05, "release_s": 0.15, "darkness": 1.0}
        mix.play(start_s, ensemble, pitch_of("C2") + up, bar_s + 0.1, **drone, level_db=-20.0, wet=0.15)
        if bar % 2 == 0:  # a blow, and a swell in the bar after it
            horns, at_s, length_s, attack_s, level_db = chord("C2 C3 Db3 Gb3"), start_s, 0.5, 0.02, -7.0
        else:
            horns, at_s, length_s, attack_s = chord("C3 Gb3 B3 F4"), start_s + 2.0 * beat_s, 3.0 * beat_s, 2.6 * beat_s
            level_db = -10.0
        for i, pitch in enumerate(horns):
            grown_db = level_db + 0.5 * growth_db
            mix.play(at_s, brass, pitch + up, length_s, attack_s, level_db=grown_db, pan=-0.4 + 0.25 * i, wet=0.6)


def _calm(mix: Mix) -> None:
    """C major: a picked guitar, a low flute's long notes, electric piano, bass and a shaker; eight bars of four."""
    jitter = np.random.default_rng(3)
    beat_s = 60.0 / _CALM_TEMPO
    bar_s = 4.0 * beat_s
    on_c, on_f, on_g = chord("C3 G3 C4 E4 G4 C5"), chord("F3 C4 F4 A4 C5 F5"), chord("G3 D4 G4 B4 D5 G5")
    on_g7 = chord("G3 D4 F4 B4 D5 G5")
    # Beat, and which note of the chord, as the thumb and two fingers take turns.
    picking = ((0.0, 0), (0.0, 4), (0.5, 3), (1.0, 1), (1.5, 5), (2.0, 0), (2.5, 3), (3.0, 1), (3.5, 4))
    for bar, pitches in enumerate((on_c, on_f, on_c, on_g, on_c, on_f, on_g7, on_c)):
        start_s = bar * bar_s
        for beat, i in picking:
            at_s = start_s + beat * beat_s + jitter.uniform(0.0, 0.01)
            level_db = -13.0 if beat % 1.0 == 0.0 else -15.0
            mix.play(at_s, guitar, pitches[i], 2.0, 0.9, level_db=level_db, pan=-0.25, wet=0.3)
        mix.play(start_s, bass, pitches[0] - 12, 1.8 * beat_s, level_db=-9.0)
        mix.play(start_s + 2.0 * beat_s, bass, pitches[1] - 12, 1.8 * beat_s, level_db=-11.0)
        for eighth in range(8):
            at_s = start_s + 0.5 * eighth * beat_s + jitter.uniform(0.0, 0.01)
            mix.play(at_s, hat, 0.03, level_db=-22.0 + 4.0 * (eighth % 2), pan=0.3, wet=0.1)
        for pitch in pitches[2:5]:
            mix.play(start_s + 2.0 * beat_s, electric_piano, pitch, 2.0 * beat_s, level_db=-20.0, pan=0.35, wet=0.4)
        for i, pitch in enumerate(pitches[1:5]):
            strings = {"attack_s": 0.7, "release_s": 0.8, "darkness": 1.9}
            mix.play(start_s, ensemble, pitch, bar_s + 0.6, **strings, level_db=-23.0, pan=-0.6 + 0.4 * i, wet=0.5)
    song = melody(
        "E4/2 G4/1 E4/1 | F4/1.5 E4/.5 D4/1 C4/1 | E4/2 G4/2 | D4/4 |"
        "E4/2 G4/1 C5/1 | A4/1.5 G4/.5 F4/1 A4/1 | G4/2 D4/1 F4/1 | E4/4",
        beat_s,
    )
    mix.play(0.0, flute, song, level_db=-14.0, pan=0.15, wet=0.5)


def _sad(mix: Mix) -> None:
    """C minor over a falling bass: a felt piano, a cello and low strings; four bars of four, and what rings on."""
    jitter = np.random.default_rng(4)
    beat_s = 60.0 / _SAD_TEMPO
    halves = (
        "C2 G2 C3 Eb3 G3",
        "Bb1 G2 D3 G3 Bb3",
        "Ab1 Eb2 C3 Eb3 Ab3",
        "G1 D2 B2 D3 G3",
        "F1 C2 C3 F3 Ab3",
        "G1 D2 C3 Eb3 G3",
        "G1 D2 B2 F3 G3",
        "C2 G2 C3 Eb3 G3",
    )
    for half, notes in enumerate(halves):
        start_s = 2.0 * half * beat_s
        pitches = chord(notes)
        for eighth, i in enumerate((0, 2, 3, 4)):
            at_s = start_s + 0.5 * eighth * beat_s + jitter.uniform(0.0, 0.02)
            level_db = -9.0 if eighth == 0 else -13.0
            mix.play(at_s, piano, pitches[i], 3.0, 2.2, level_db=level_db, pan=-0.08, wet=0.35)
        for i, pitch in enumerate(pitches[:4]):
            strings = {"attack_s": 0.6, "release_s": 0.7, "darkness": 1.7}
            length_s = 2.0 * beat_s + 0.7
            mix.play(start_s, ensemble, pitch, length_s, **strings, level_db=-25.0, pan=0.5 - 0.33 * i, wet=0.5)
    lament = melody(
        "G3/1.5 F3/.5 Eb3/1 D3/1 | Eb3/1.5 C3/.5 B2/1 D3/1 | Ab3/1.5 G3/.5 F3/1 Eb3/1 | D3/1 C3/.5 B2/.5 C3/3.5", beat_s
    )
    mix.play(0.0, cello, lament, level_db=-13.0, pan=0.2, wet=0.5)


@dataclass(frozen=True, slots=True)
class _Part:
    """A movement's score. room_s: the room's decay; level_db: the movement's RMS, dBFS."""

    name: str
    mood: str
    length_s: float
    compose: Callable[[Mix], None]
    room_s: float
    level_db: float


_PARTS = (
    _Part("Morning market", "bright and fast", 40 * 60.0 / _BRIGHT_TEMPO, _bright, 0.9, -16.0),
    _Part("The chase", "tense", 40 * 60.0 / _TENSE_TEMPO, _tense, 1.6, -16.0),
    _Part("By the lake", "calm", 32 * 60.0 / _CALM_TEMPO, _calm, 2.0, -22.0),
    _Part("After the letter", "sad", 18 * 60.0 / _SAD_TEMPO, _sad, 2.4, -23.0),
)


def movements() -> tuple[Movement, ...]:
    """The movements, in order; the first begins at 0."""
    found, start_s = [], 0.0
    for part in _PARTS:
        found.append(Movement(part.name, part.mood, start_s, start_s + part.length_s))
        start_s += part.length_s
    return tuple(found)


def render() -> Iterator[FloatArray]:
    """The movements one by one: float32, shape (n_samples, 2), at RATE_HZ, peaks below -1 dBFS.

    The ringing of a movement is part of the next one; the last one fades out at its end.
    """
    ringing: FloatArray = np.zeros((0, 2), dtype=np.float32)
    for part, movement in zip(_PARTS, movements(), strict=True):
        rings_on_s = 0.0 if part is _PARTS[-1] else _RINGING_S
        mix = Mix(part.length_s + rings_on_s)
        part.compose(mix)
        mixed = mix.finish(part.room_s, part.level_db, _RINGING_S)
        mixed[: ringing.shape[0]] += ringing
        n_samples = samples_in(movement.end_s) - samples_in(movement.start_s)
        ringing = mixed[n_samples:]
        yield limited(mixed[:n_samples])
