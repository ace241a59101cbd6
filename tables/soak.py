"""What many short runs, killed at random, came to: results/bench/soak.json, written by ``experiments.soak``."""

import json
from pathlib import Path

from aldsgd.errors import ConfigError
from tables.base import Table, table

#: What is counted -> how a reader calls it.
SAID = {
    "runs": "runs",
    "R = 2": "of them on two processes",
    "starts": "starts",
    "kills": "starts killed",
    "failed": "starts that failed by themselves",
    "hangs": "starts that hung",
    "compared": "runs made once more without a kill, and compared row by row",
    "wrong": "records lost, doubled or wrong",
}


def soak(root: Path) -> Table:
    """One row a count. Raises ConfigError where nothing is recorded."""
    path = root / "bench" / "soak.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        counts = {"wrong": sum(found["wrong"].values())} | {name: found[name] for name in SAID if name != "wrong"}
        rows = [{"what": said, "count": str(counts[name])} for name, said in SAID.items()]
        minutes, hardware = found["minutes"], found["environment"]["hardware"]
        machine = f"{hardware['cores']} cores of {hardware['cpu']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read ({error!r}); python -m experiments.soak writes such a file") from None
    caption = f"Short runs of every kind, killed at random: {minutes:g} minutes on {machine}."
    return table(caption, rows)
