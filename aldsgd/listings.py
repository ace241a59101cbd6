"""Which runs an experiment is made of: the list that its script writes, and that tables and figures read."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError
from aldsgd.records import Run, RunStore, check_folder, key


class MissingRuns(ConfigError):
    """An experiment was not run, or not all of it."""


#: (label of the curve or row, seed, run)
Listed = tuple[str, int, Run]


def path_of(root, name: str) -> Path:
    return Path(root) / "experiments" / f"{name}.json"


def names(root) -> list[str]:
    """Every experiment that is listed. Raises ConfigError where there is none, as in a mistyped folder."""
    if not Path(root).is_dir():
        raise ConfigError(f"there is no folder of results {root}: name one with --results, or run an experiment first")
    found = sorted(path.stem for path in path_of(root, "x").parent.glob("[!.]*.json"))
    if not found:
        raise ConfigError(f"no experiment has been run in {root}: start with python -m experiments.quickstart")
    return found


#: Presets, from the one that says least about the paper.
PRESETS = ("smoke", "cpu", "mid", "paper")


def larger_listed(root, name: str, preset: str) -> str | None:
    """The preset that an experiment lists, where that one says more than ``preset``; else None."""
    try:
        listed = read_experiment(root, name)["preset"]
    except ConfigError:  # none yet, or damaged
        return None
    known = {preset, listed} <= set(PRESETS)
    return listed if known and PRESETS.index(preset) < PRESETS.index(listed) else None


def check_experiment(root, name: str, preset: str) -> None:
    """Raise ConfigError unless ``write_experiment`` can list runs of this preset; call it before any training.

    A list never takes the place of one of a larger preset, of which tables and claims are made.
    """
    path = path_of(root, name)
    check_folder(path.parent, Path(root))
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, where the list of runs should be: move it away")
    if listed := larger_listed(root, name, preset):
        raise ConfigError(
            f"{path} lists runs of preset {listed}: give a {preset} run another folder with --results, "
            f"or ask for --preset {listed}"
        )


def write_experiment(
    root,
    name: str,
    preset: str,
    entries: Iterable[tuple[str, int, Mapping]],
    conditions: Mapping[str, str] | None = None,
) -> Path:
    """Write ``root/experiments/<name>.json``: which runs the tables and figures of an experiment are made of.

    ``entries`` holds (label, seed, configuration) triples; the label names the curve or the row. ``conditions``: label
    -> under which condition its runs were made, where that does not follow from their configurations, such as where
    each method has a learning rate of its own. Written atomically. Raises ConfigError
    if it cannot be written, a label has the same seed twice, or the list that is there is of a larger preset.
    """
    runs = [
        {"label": label, "seed": int(seed), "key": key(config)}
        | ({"condition": conditions[label]} if conditions and label in conditions else {})
        for label, seed, config in entries
    ]
    if _repeated(runs):
        raise ConfigError(f"experiment {name} lists a label twice with the same seed: give each run its own label")
    check_experiment(root, name, preset)
    text = json.dumps({"experiment": name, "preset": preset, "runs": runs}, indent=1) + "\n"
    path = path_of(root, name)
    try:
        replace_file(path, lambda temporary: temporary.write_bytes(text.encode()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another --results") from None
    return path


def read_experiment(root, name: str) -> dict:
    """The dictionary that ``write_experiment`` wrote; ConfigError, naming the command, if there is none."""
    path = path_of(root, name)
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        runs = [
            {"label": entry["label"], "seed": entry["seed"], "key": entry["key"], "condition": entry.get("condition")}
            for entry in listing["runs"]
        ]
        kinds = {tuple(type(value) for value in list(entry.values())[:3]) for entry in runs}
        named = all(isinstance(entry["condition"], str | None) for entry in runs)
        if kinds == {(str, int, str)} and named and not _repeated(runs):
            return {"experiment": name, "preset": str(listing["preset"]), "runs": runs}
    except FileNotFoundError:
        raise MissingRuns(f"{path} is not there: make it with python -m experiments.{name}") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    raise ConfigError(f"{path} is damaged: make it again with python -m experiments.{name}")


def _repeated(runs: list[dict]) -> bool:
    return len({(run["label"], run["seed"]) for run in runs}) < len(runs)


def load_experiment(root, name: str, partial: bool = False) -> list[Listed]:
    """(label, seed, run) of every run of an experiment, in the order in which it was listed.

    Raises ConfigError, naming the command that makes them, when a listed run is missing or incomplete; where
    ``partial``, such runs are left out, and only a list without any complete run raises.
    """
    listing, store = read_experiment(root, name), RunStore(root)
    found = [(entry["label"], entry["seed"], store.find(entry["key"])) for entry in listing["runs"]]
    complete = [entry for entry in found if entry[2] is not None]
    if len(complete) == len(found) or (partial and complete):
        return complete
    label, seed, _ = next(entry for entry in found if entry[2] is None)
    raise MissingRuns(
        f"{len(found) - len(complete)} of {len(found)} runs of {name} are missing in {store.folder} "
        f"(first: {label}, seed {seed}): make them with python -m experiments.{name} --preset {listing['preset']}"
    )
