"""Mean mood of every file in a folder as a table: python examples/folder_to_data_frame.py music/ moods.csv"""

import sys
from pathlib import Path

import pandas as pd

import realtime_mer as mer

folder, table = sys.argv[1:]
rows = {}
for song in sorted(Path(folder).iterdir()):
    try:
        rows[song.name] = mer.predict(song).to_pandas()[["valence", "arousal"]].mean()
    except mer.RealtimeMerError as error:
        print(f"left out: {error}", file=sys.stderr)

moods = pd.DataFrame(rows).T.rename_axis("file")
moods.to_csv(table)
print(moods)
