"""The tables of the theory: ``results/theory/<name>.csv``, and one JSON per script that says how they were made.

A script's JSON carries the SHA-256 of each of its CSVs, so that a table from another run is noticed. No torch here.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from aldsgd.cache import replace_file
from aldsgd.environment import environment
from aldsgd.errors import ConfigError

FOLDER = "theory"
#: More than the tables of a script take, so that a full disk is noticed before they are computed (bytes).
ROOM = 2**18
KINDS = {"preset": str, "configuration": dict, "csv_sha256": dict}


def check_writable(results) -> None:
    """Raise ConfigError unless files can be made in ``results/theory`` (which is created), with room for tables."""
    folder = Path(results, FOLDER)
    try:
        replace_file(folder / ".probe", lambda path: path.write_bytes(bytes(ROOM)))
        (folder / ".probe").unlink()
        taken = [path for path in folder.iterdir() if path.suffix in (".csv", ".json") and path.is_dir()]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}): choose another --results") from None
    if taken:
        raise ConfigError(f"{taken[0]} is a folder where a table belongs: move it away, or choose another --results")


def write(results, script: str, frames: Mapping[str, pd.DataFrame], preset: str, configuration: Mapping) -> None:
    """Write one CSV per frame, then ``<script>.json``; the JSON last, so that a crash leaves no matching pair.

    Floats have ten significant digits: enough for every use, and small files. Raises OSError naming the file.
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


def described(results, script: str) -> dict | None:
    """How a script's tables were made, None where there are none. Raises ConfigError where it cannot be read."""
    path = Path(results, FOLDER, f"{script}.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(record[name], kind) for name, kind in KINDS.items()):
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is damaged: remove it and {again(script)}") from None
    return record


def again(script: str) -> str:
    """What makes the tables of a script."""
    return f"make it with python -m experiments.{script}"


def read(results, script: str) -> tuple[dict, dict[str, pd.DataFrame]]:
    """(record, frames by name) of a script. Raises ConfigError, naming the command, where one is missing or altered."""
    folder = Path(results, FOLDER)
    record, frames = described(results, script), {}
    if record is None:
        raise ConfigError(f"{folder / script}.json is not there: {again(script)}")
    for name, expected in record["csv_sha256"].items():
        path = folder / f"{name}.csv"
        try:
            found = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path} is not there, or cannot be read ({error.strerror}): {again(script)}") from None
        if hashlib.sha256(found).hexdigest() != expected:
            raise ConfigError(f"{path} is not the file that {script}.json describes: {again(script)}")
        frames[name] = pd.read_csv(io.BytesIO(found), dtype={"level": str})
    return record, frames
