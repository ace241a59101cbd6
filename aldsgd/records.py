"""The one store of runs: a CSV log and a JSON beside it for every trained configuration.

A run counts as complete only when its JSON parses, says so, and carries the SHA-256 of the CSV that lies
beside it, so a file that a crash left half-written is never mistaken for a result. Columns and fields are
explained in ``results/README.md``. Nothing here imports torch.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError

try:
    import fcntl
except ImportError:  # not on Windows: there, two processes training the same run are not told apart
    fcntl = None

FORMAT = 1
WORKER_COLUMNS = ("train_loss", "test_loss", "test_accuracy")
NETWORK_COLUMNS = (
    "worst_accuracy", "mean_accuracy", "best_accuracy", "averaged_accuracy", "averaged_loss",
    "consensus_distance", "logical_bytes", "rounds", "modelled_compute_s", "modelled_communication_s",
)  # fmt: skip
CLOCK_COLUMNS = ("seconds_compute", "seconds_mixing", "seconds_evaluation")
COLUMNS = ("epoch", "step", "worker", *WORKER_COLUMNS, *NETWORK_COLUMNS, *CLOCK_COLUMNS)
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "networkx", "cvxpy", "scikit-learn")


def canonical(config: Mapping) -> str:
    """The configuration as one line of JSON, keys sorted; equal for equal configurations.

    Values may be None, booleans, integers, finite floats, strings, or (nested) lists or tuples of these.
    Raises ConfigError naming the field that is none of them.
    """
    for field, value in config.items():
        try:
            json.dumps({field: value}, allow_nan=False)
        except (TypeError, ValueError):
            raise ConfigError(
                f"field {field!r} of the configuration is {value!r}, which JSON cannot hold: give a finite "
                "number, text, a list of them, or None"
            ) from None
    return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key(config: Mapping) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the canonical configuration."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Run:
    """A complete run: ``config`` (resolved), ``meta`` (the rest of the JSON), ``csv`` (path of the rows)."""

    config: dict
    meta: dict
    csv: Path

    @property
    def key(self) -> str:
        return key(self.config)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Every row of the CSV, blanks as NaN; ``worker`` is a nullable integer."""
        # Python's own conversion: that of pandas is off by one unit in the last place for some numbers.
        cells = pd.read_csv(self.csv, dtype=str, keep_default_na=False)
        rows = cells.apply(lambda column: column.map(lambda cell: float(cell or "nan")))
        return rows.astype({"epoch": "int64", "step": "int64", "worker": "Int64"})

    @property
    def network(self) -> pd.DataFrame:
        """Rows of the whole network, one per epoch, without the columns that only workers have."""
        rows = self.rows[self.rows["worker"].isna()]
        return rows.drop(columns=["worker", "test_loss", "test_accuracy"]).reset_index(drop=True)

    @property
    def workers(self) -> pd.DataFrame:
        """Rows of the single workers, one per epoch and worker, without the columns of the network."""
        rows = self.rows[self.rows["worker"].notna()]
        rows = rows.drop(columns=[*NETWORK_COLUMNS, *CLOCK_COLUMNS], errors="ignore").reset_index(drop=True)
        return rows.astype({"worker": "int64"})


class RunStore:
    """The runs under ``root/runs``. Opening a store writes nothing.

    Parameters
    ----------
    root : str or Path
        The results folder; it need not exist yet.
    """

    def __init__(self, root):
        self.root = Path(root)
        self.folder = self.root / "runs"

    def stem(self, config: Mapping) -> str:
        """File name without suffix: data set, method and key."""
        parts = []
        for field in ("dataset", "method"):
            if not config.get(field):
                raise ConfigError(f"the configuration has no {field!r}: name it, the file is called after it")
            parts.append(re.sub(r"[^A-Za-z0-9_.+]+", "_", str(config[field])))
        return "-".join([*parts, key(config)])

    def check_writable(self) -> None:
        """Raise ConfigError unless files can be made in the folder of runs (which is created)."""
        probe = self.folder / f".probe.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the results folder {self.root} cannot be written ({error.strerror}): choose another with --results"
            ) from None

    def load(self, config: Mapping) -> Run | None:
        """The complete run of this configuration, or None (absent, half-written or altered).

        Raises ConfigError when the file of that name belongs to another configuration.
        """
        return self._read(self.folder / f"{self.stem(config)}.json")

    def runs(self) -> list[Run]:
        """Every complete run, in the order of the file names; unfinished ones are left out."""
        paths = sorted(path for path in self.folder.glob("*.json") if not path.name.startswith("."))
        return [run for run in map(self._read, paths) if run is not None]

    def find(self, run_key: str) -> Run | None:
        """The complete run with this key, whatever its data set and method, or None."""
        for path in sorted(self.folder.glob(f"*-{run_key}.json")):
            run = self._read(path)
            if run is not None:
                return run
        return None

    def writer(self, config: Mapping, environment: Mapping) -> "RunWriter":
        """A context manager that records one run (RunWriter); ``environment`` as from ``environment()``."""
        return RunWriter(self, config, environment)

    def _read(self, path: Path) -> Run | None:
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(meta, dict) or not isinstance(meta.get("config"), dict):
            return None
        config = meta.pop("config")
        if key(config) != path.stem.rpartition("-")[2]:
            raise ConfigError(
                f"{path} belongs to another configuration than its name says: move it away, "
                "or choose another folder with --results"
            )
        csv = path.with_suffix(".csv")
        try:
            intact = hashlib.sha256(csv.read_bytes()).hexdigest() == meta.get("csv_sha256")
        except OSError:
            return None
        return Run(config, meta, csv) if intact and meta.get("complete") is True else None


class RunWriter:
    """Records one run; complete only once ``finish`` has returned.

    Rows are appended to ``<stem>.csv.part`` and flushed, so that a running experiment can be watched;
    ``finish`` renames it to ``<stem>.csv`` and then writes ``<stem>.json`` atomically. Leaving the block
    without ``finish`` leaves the ``.part`` file behind and changes no finished file. Entering raises
    ConfigError, with nothing touched, when the folder cannot be written, when the name is taken by another
    configuration, or when another process is recording the same run.
    """

    def __init__(self, store: RunStore, config: Mapping, environment: Mapping):
        self.store, self.config, self.environment = store, dict(config), dict(environment)
        self.path = store.folder / f"{store.stem(config)}.csv"
        self.part = self.path.with_suffix(".csv.part")
        self._file = None

    def __enter__(self) -> "RunWriter":
        self.store.load(self.config)
        self.store.check_writable()
        try:
            self._file = open(self.part, "ab")
        except OSError as error:
            raise ConfigError(f"{self.part} cannot be written ({error.strerror}): move it away") from None
        try:
            self._lock()
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self._write([",".join(COLUMNS)])
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def append(self, rows: list[dict]) -> None:
        """Add rows: dictionaries of column to number, blank where None. ValueError: no such column."""
        lines = []
        for row in rows:
            if unknown := set(row) - set(COLUMNS):
                raise ValueError(f"no such columns in a run's CSV: {sorted(unknown)}")
            lines.append(",".join(_cell(row.get(column)) for column in COLUMNS))
        self._write(lines)

    def finish(self, extra: Mapping | None = None) -> Run:
        """Make the run complete; ``extra`` is kept in the JSON. Returns the run as a reader sees it."""
        meta = {
            "format": FORMAT,
            "complete": True,
            "config": json.loads(canonical(self.config)),
            "environment": _plain(self.environment),
            "extra": _plain(dict(extra or {})),
            "csv_sha256": self._hash.hexdigest(),
        }
        text = json.dumps(meta, indent=1, allow_nan=False) + "\n"
        if fcntl is None:  # Windows renames no open file
            self._file.close()
        os.replace(self.part, self.path)
        replace_file(self.path.with_suffix(".json"), lambda path: path.write_bytes(text.encode()))
        self._file.close()
        run = self.store.load(self.config)
        if run is None:
            raise OSError(f"{self.path} was changed by another program while it was written: run again")
        return run

    def _write(self, lines: list[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        self._hash.update(data)
        self._file.write(data)
        self._file.flush()

    def _lock(self) -> None:
        busy = ConfigError(f"{self.path.stem} is being recorded by another process: wait for it, or stop it")
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:  # a file system without locks
            return
        # Between opening and locking, the other process may have renamed this very file to its final name.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.part)):
                return
        raise busy


def _cell(value) -> str:
    """A number as the shortest text that reads back as the same number; None is blank."""
    if value is None:
        return ""
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return repr(float(value))
    raise TypeError(f"a run's CSV holds plain numbers, not {type(value).__name__}")


def _plain(value):
    """JSON-able copy: NumPy scalars as numbers, non-finite floats and anything unknown as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def environment(device_name: str | None = None, threads: int | None = None) -> dict:
    """What a run was made with: package versions, hardware, and the state of this repository.

    Parameters
    ----------
    device_name : name of the accelerator, or None for a CPU run.
    threads : CPU threads that training used.

    Returns
    -------
    dict with ``versions`` (None where not installed), ``hardware``, ``commit`` (None outside a git checkout
    of this repository) and ``clean`` (nothing outside ``results/`` and ``figures/`` differs from it).
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    hardware = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": device_name,
        "threads": threads,
    }
    commit, clean = _git_state(Path(__file__).resolve().parents[1])
    return {"versions": versions, "hardware": hardware, "commit": commit, "clean": clean}


def _cpu_model() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """(commit, clean) of the checkout whose top folder is ``root``; (None, None) if there is none."""

    def git(*arguments: str) -> str:
        # Without optional locks, asking for the state never disturbs a commit that is being made.
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            check=True, capture_output=True, text=True, timeout=30,
        ).stdout.strip()  # fmt: skip

    try:
        # A copy installed inside some other project's checkout must not report that project's commit.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None, None
        changed = git("status", "--porcelain", "--", ".", ":(exclude)results", ":(exclude)figures")
        return git("rev-parse", "HEAD"), not changed
    except (OSError, subprocess.SubprocessError):
        return None, None


def write_experiment(root, name: str, preset: str, entries: Iterable[tuple[str, int, Mapping]]) -> Path:
    """Write ``root/experiments/<name>.json``: which runs the tables and figures of an experiment are made of.

    ``entries`` holds (label, seed, configuration) triples; the label names the curve or the row. Written
    atomically, replacing the list of an earlier preset. Raises ConfigError if it cannot be written or a label
    has the same seed twice.
    """
    runs = [{"label": label, "seed": int(seed), "key": key(config)} for label, seed, config in entries]
    if len({(run["label"], run["seed"]) for run in runs}) < len(runs):
        raise ConfigError(f"experiment {name} lists a label twice with the same seed: give each run its own label")
    text = json.dumps({"experiment": name, "preset": preset, "runs": runs}, indent=1) + "\n"
    path = Path(root) / "experiments" / f"{name}.json"
    try:
        replace_file(path, lambda temporary: temporary.write_bytes(text.encode()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another --results") from None
    return path


def read_experiment(root, name: str) -> dict:
    """The dictionary that ``write_experiment`` wrote; ConfigError, naming the command, if there is none."""
    path = Path(root) / "experiments" / f"{name}.json"
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        if {"label", "seed", "key"} <= set.intersection(*(set(entry) for entry in listing["runs"])):
            return {"experiment": name, "preset": str(listing["preset"]), "runs": listing["runs"]}
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there: make it with python -m experiments.{name}") from None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"{path} is damaged: make it again with python -m experiments.{name}")


def load_experiment(root, name: str) -> list[tuple[str, int, Run]]:
    """(label, seed, run) of every run of an experiment, in the order in which it was listed.

    Raises ConfigError, naming the command that makes them, when a listed run is missing or incomplete.
    """
    listing = read_experiment(root, name)
    store = RunStore(root)
    found = [(entry["label"], int(entry["seed"]), store.find(entry["key"])) for entry in listing["runs"]]
    missing = [(label, seed) for label, seed, run in found if run is None]
    if missing:
        label, seed = missing[0]
        raise ConfigError(
            f"{len(missing)} of {len(found)} runs of {name} are missing in {store.folder} "
            f"(first: {label}, seed {seed}): "
            f"make them with python -m experiments.{name} --preset {listing['preset']}"
        )
    return found
