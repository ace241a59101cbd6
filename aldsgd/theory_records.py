"""The tables of the theory: ``results/theory/<name>.csv``, and one JSON per script that says how they were made.

A script's JSON carries the SHA-256 of each of its CSVs, so that a table from another run is noticed. No torch here.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from aldsgd.cache import replace_file
from aldsgd.environment import environment
from aldsgd.errors import ConfigError

FOLDER = "theory"


def check_writable(results) -> None:
    """Raise ConfigError unless files can be made in ``results/theory`` (which is created)."""
    try:
        replace_file(Path(results, FOLDER, "probe"), lambda path: path.touch())
        Path(results, FOLDER, "probe").unlink()
    except OSError as error:
        raise ConfigError(
            f"{Path(results, FOLDER)} cannot be written ({error.strerror}): choose another --results"
        ) from None


def write(results, script: str, frames: Mapping[str, pd.DataFrame], preset: str, configuration: Mapping) -> None:
    """Write one CSV per frame, then ``<script>.json``; the JSON last, so that a crash leaves no matching pair.

    Floats have ten significant digits: enough for every use, and small files.
    """
    folder, sums = Path(results, FOLDER), {}
    for name, frame in frames.items():
        text = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n").encode()
        sums[name] = hashlib.sha256(text).hexdigest()
        replace_file(folder / f"{name}.csv", lambda path, text=text: path.write_bytes(text))
    record = {
        "script": script,
        "preset": preset,
        "configuration": dict(configuration),
        "environment": environment(),
        "csv_sha256": sums,
    }
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    replace_file(folder / f"{script}.json", lambda path: path.write_bytes(text.encode()))


def preset_of(results, script: str) -> str | None:
    """The preset of a script's tables, None where there are none that can be read."""
    try:
        return json.loads(Path(results, FOLDER, f"{script}.json").read_text(encoding="utf-8"))["preset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read(results, script: str) -> tuple[dict, dict[str, pd.DataFrame]]:
    """(record, frames by name) of a script. Raises ConfigError, naming the command, where one is missing or altered."""
    folder = Path(results, FOLDER)
    again = f"make it with python -m experiments.{script}"
    try:
        record = json.loads((folder / f"{script}.json").read_text(encoding="utf-8"))
        sums = dict(record["csv_sha256"])
    except FileNotFoundError:
        raise ConfigError(f"{folder / script}.json is not there: {again}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / script}.json is damaged: {again}") from None
    frames = {}
    for name, expected in sums.items():
        path = folder / f"{name}.csv"
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            raise ConfigError(f"{path} is not there: {again}") from None
        if found != expected:
            raise ConfigError(f"{path} is not the file that {script}.json describes: {again}")
        frames[name] = pd.read_csv(path, dtype={"level": str})
    return record, frames
