#!/bin/bash
# A first evening: a fader that moves, a recording, its replay, and a predicted folder. All of it is in README.md.
#
#     make demo                             # once: installs everything
#     examples/first_evening.sh [FOLDER]    # writes into this folder, by default a new one
#
# It plays the built-in piece, so it needs no sound card. With music on your input, leave out the word `demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
mer=.venv/bin/realtime-mer
folder=${1:-$(mktemp -d)}
port=${PORT:-9000}

stop() {
  # As Ctrl-C does, for a program in the background.
  kill -TERM "$1" 2> /dev/null || true
  wait "$1"
}

echo "1. A fader: osc-monitor, in place of a lighting desk, receives on port $port."
$mer osc-monitor "$port" > "$folder/osc.txt" &
monitor=$!
$mer demo --no-plot --osc "127.0.0.1:$port" --record "$folder/tonight" > "$folder/demo.txt" &
demo=$!
trap 'kill $monitor $demo 2> /dev/null || true' EXIT
# The first prediction comes after one second of music, then two a second.
until [ "$(grep -c ' /mer/arousal ' "$folder/osc.txt")" -ge 6 ]; do
  kill -0 $demo
  sleep 0.2
done
stop $demo
stop $monitor
grep ' /mer/smooth/unipolar/arousal ' "$folder/osc.txt" | sed -n '1p;$p'

echo "2. The recording, replayed: the same predictions."
$mer replay "$folder/tonight" --no-plot

echo "3. A folder, predicted: here, the sound of the recording."
$mer predict "$folder/tonight" --output "$folder/moods"
head -3 "$folder"/moods/*.csv

echo "Everything is in $folder."
