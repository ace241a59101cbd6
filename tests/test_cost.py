"""What runs took, counted again from the records alone."""

import json
from pathlib import Path

import pytest

from tables.cost import cost
from tables.prose import PARTS, Numbers

ROOT = Path(__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def files() -> dict[str, dict]:
    """key -> what the JSON of a run holds."""
    return {path.stem.rpartition("-")[2]: json.loads(path.read_text()) for path in (ROOT / "runs").glob("*.json")}


def test_hours_are_those_of_the_records_and_no_run_counts_twice(files):
    rows = {row["experiment"]: row for row in cost(ROOT).rows.to_dict("records")}
    counted: set[str] = set()
    for name in sorted(path.stem for path in (ROOT / "experiments").glob("*.json")):
        listed = json.loads((ROOT / f"experiments/{name}.json").read_text())["runs"]
        keys = {entry["key"][:12] for entry in listed} & set(files)
        new = [files[key]["extra"]["seconds_total"] for key in keys - counted]
        counted |= keys
        row = rows[f"`{name}`"]
        assert row["not in a row above"].value == len(new)
        assert row["hours of those"].value == pytest.approx(sum(new) / 3600)
        assert 0 < row["seconds a run, least"].value <= row["median"].value
    assert counted


def test_hours_of_the_parts_of_preset_mid_are_those_of_the_records_each_once(files):
    counted: set[str] = set()
    for part, names in PARTS.items():
        keys = set()
        for name in names:
            path = ROOT / f"experiments/{name}.json"
            listing = json.loads(path.read_text()) if path.exists() else {"preset": None}
            keys |= {entry["key"][:12] for entry in listing["runs"]} if listing["preset"] == "mid" else set()
        hours = sum(files[key]["extra"]["seconds_total"] for key in (keys & set(files)) - counted) / 3600
        counted |= keys
        assert Numbers(ROOT).text(f"hours of {part}") == f"{hours:.1f} hours"
