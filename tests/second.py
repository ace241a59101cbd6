"""What a second computation of a table starts from: the listing, the JSON and the CSV of runs, with pandas alone."""

import json
from pathlib import Path

import pandas as pd


def read(root: Path, name: str) -> pd.DataFrame:
    """A row per complete run of an experiment: its listing, its configuration, and its network rows."""
    listing = json.loads((root / "experiments" / f"{name}.json").read_text())
    rows = []
    for entry in listing["runs"]:
        for path in (root / "runs").glob(f"*-{entry['key']}.csv"):
            config = json.loads(path.with_suffix(".json").read_text())["config"]
            curve = pd.read_csv(path)
            rows.append({**config, **entry, "curve": curve[curve["worker"].isna()].reset_index(drop=True)})
    return pd.DataFrame(rows)


def series(frame: pd.DataFrame, value, **fields) -> pd.Series:
    for name, wanted in fields.items():
        frame = frame[frame[name] == wanted]
    return frame.set_index("seed")["curve"].map(value).sort_index()


def last(column):
    return lambda curve: curve[column].iloc[-1]


def area(curve: pd.DataFrame) -> float:
    return curve["mean_accuracy"].mean()
