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
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError
from aldsgd.runs import Run

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

FORMAT = 1
#: Of runs in virtual time.
VIRTUAL_COLUMNS = ("virtual_s", "gradients", "messages_lost", "staleness_mean", "staleness_max")
CLOCK_COLUMNS = ("seconds_compute", "seconds_mixing", "seconds_evaluation")
#: Nanoseconds after which a file counts as settled: a younger one may change again without a newer time of change.
SETTLED = 2_000_000_000


class AlreadyComplete(ConfigError):
    """The run that was to be recorded is complete already; ``run`` holds it. Nothing was touched."""

    def __init__(self, run: "Run"):
        super().__init__(f"{run.csv} is complete already: delete it and its JSON to train the run again")
        self.run = run


def columns(metrics: Sequence[str] = ("accuracy",), also: Sequence[str] = (), virtual: bool = False) -> tuple[str, ...]:
    """Columns of a run's CSV, for the metrics of its task in order; the first is the one that tables show.

    ``also``: further policies of BatchNorm, each with columns of its own for what is tested. ``virtual``: with those of
    runs in virtual time.

    Raises ConfigError where a metric has no usable name, or two have the same.
    """
    for metric in metrics:
        if not re.fullmatch(r"[A-Za-z0-9_]+", str(metric)) or metric == "loss":
            raise ConfigError(f"a metric cannot be called {metric!r}: letters, digits and _ make a name, except 'loss'")
    if not metrics or len(set(metrics)) < len(metrics):
        raise ConfigError(f"a task needs at least one metric, each with its own name, not {list(metrics)}")
    tested = [f"test_{metric}" for metric in ("loss", *metrics)]
    summaries = [f"{which}_{metric}" for metric in metrics for which in ("worst", "mean", "best", "averaged")]
    found = [*tested, *summaries, "averaged_loss"]
    return (
        "epoch", "step", "worker", "train_loss", *found, *(f"{policy}_{name}" for policy in also for name in found),
        "consensus_distance", "logical_bytes", "rounds", "modelled_compute_s", "modelled_communication_s",
        *(VIRTUAL_COLUMNS if virtual else ()), *CLOCK_COLUMNS,
    )  # fmt: skip


COLUMNS = columns()


def canonical(config: Mapping) -> str:
    """The configuration as one line of JSON, keys sorted; equal for equal configurations.

    Values may be None, booleans, integers, finite floats, strings, or (nested) lists or tuples of these.
    Raises ConfigError naming the field that is none of them.
    """
    try:
        return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        field, value = next((item for item in config.items() if not _holds(item[1])), ("keys", list(config)))
        raise ConfigError(
            f"field {field!r} of the configuration is {value!r}, which JSON cannot hold: give a finite "
            "number, text, a list of them, or None"
        ) from None


def _holds(value) -> bool:
    """Whether JSON can hold a value."""
    with contextlib.suppress(TypeError, ValueError):
        return bool(json.dumps(value, sort_keys=True, allow_nan=False))
    return False


def key(config: Mapping) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the canonical configuration."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:12]


# (path, what tells whether its files changed) -> the run, for all stores of this process.
_READ: dict[Path, tuple[tuple, Run]] = {}
# (folder, what tells whether it changed) -> key -> JSON files of that key.
_INDEX: dict[Path, tuple[tuple, dict[str, list[Path]]]] = {}


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file or folder does: identity, size, times of change. Raises OSError if it is absent."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(state: tuple[int, ...]) -> bool:
    return time.time_ns() - max(state[2::4] + state[3::4]) > SETTLED


class RunStore:
    """The runs under ``root/runs``. Opening a store writes nothing.

    Args:
        root: the results folder; it need not exist yet.
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
        check_folder(self.folder, self.root)

    def load(self, config: Mapping) -> Run | None:
        """The complete run of this configuration, or None (absent, half-written or altered).

        Raises ConfigError when the file of that name belongs to another configuration.
        """
        return self._read(self.folder / f"{self.stem(config)}.json")

    def runs(self) -> list[Run]:
        """Every complete run, in the order of the file names; unfinished ones are left out."""
        paths = sorted(path for found in self._paths().values() for path in found)
        return [run for run in map(self._read, paths) if run is not None]

    def find(self, run_key: str) -> Run | None:
        """The complete run with this key, whatever its data set and method, or None."""
        return next(filter(None, map(self._read, self._paths().get(run_key, []))), None)

    def writer(
        self, config: Mapping, environment: Mapping, metrics=("accuracy",), also: Sequence[str] = (), virtual=False
    ) -> "RunWriter":
        """A context manager that records one run (RunWriter); ``environment`` as from ``environment()``."""
        return RunWriter(self, config, environment, columns(metrics, also, virtual))

    def _paths(self) -> dict[str, list[Path]]:
        """key -> JSON files of that key, as long as the folder has not changed."""
        try:
            state = _state(self.folder)
            if self.folder in _INDEX and _INDEX[self.folder][0] == state:
                return _INDEX[self.folder][1]
            names = sorted(os.listdir(self.folder))
        except OSError:
            return {}
        found: dict[str, list[Path]] = {}
        for name in names:
            if match := re.fullmatch(r".*-([0-9a-f]{12})\.json", name):
                found.setdefault(match[1], []).append(self.folder / name)
        if _settled(state):
            _INDEX[self.folder] = (state, found)
        return found

    def _read(self, path: Path) -> Run | None:
        csv = path.with_suffix(".csv")
        try:
            state = _state(path) + (_state(csv) if csv.exists() else ())
            if path in _READ and _READ[path][0] == state:
                return _READ[path][1]
            meta = json.loads(path.read_text(encoding="utf-8"))
            config = dict(meta.pop("config"))
            named = key(config)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        if named != path.stem.rpartition("-")[2]:
            raise ConfigError(
                f"{path} belongs to another configuration than its name says: move it away, "
                "or choose another folder with --results"
            )
        try:
            intact = hashlib.sha256(csv.read_bytes()).hexdigest() == meta.get("csv_sha256")
        except OSError:
            return None
        if not intact or meta.get("complete") is not True:
            return None
        run = Run(config, meta, csv)
        if _settled(state):
            _READ[path] = (state, run)
        return run


def check_folder(folder: Path, root: Path, name: str = "results") -> None:
    """Raise ConfigError unless files can be made in ``folder`` (which is created), a part of ``root``, which the option
    ``name`` gives."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the {name} folder {root} cannot be written ({error.strerror}): choose another with --{name}"
        ) from None


class RunWriter:
    """Records one run; complete only once ``finish`` has returned.

    Rows are appended to ``<stem>.csv.part`` and flushed, so that a running experiment can be watched; ``finish``
    writes ``<stem>.json`` atomically and then renames the rows to ``<stem>.csv``, which makes the run complete at
    once. Leaving the block without ``finish`` leaves the ``.part`` file behind, unless the run was refused before
    its first row, and changes no finished file. Where there are no locks, each writer has a part of its own, and
    the first to finish counts.
    Entering raises AlreadyComplete when the run is complete, be it that another process has just finished it, and
    ConfigError when the folder cannot be written, when the name is taken by another configuration or a folder, or
    when another process is recording the same run; nothing is touched then. A full disk is a ConfigError at any time.
    """

    def __init__(self, store: RunStore, config: Mapping, environment: Mapping, columns: Sequence[str] = COLUMNS):
        self.store, self.config, self.environment = store, dict(config), dict(environment)
        self.columns = tuple(columns)
        self.path = store.folder / f"{store.stem(config)}.csv"
        self.part = self.path.with_suffix(".csv.part")
        self._file, self._locked, self._begun = None, False, False

    def __enter__(self) -> "RunWriter":
        self._refuse_complete()
        self.store.check_writable()
        for path in (self.path, self.path.with_suffix(".json"), self.part):
            if path.is_dir():
                raise ConfigError(f"{path} is a folder, where the run's file should be: move it away")
        with self._faults(self.part):
            self._file = open(self.part, "ab")
        try:
            self._locked = self._lock()
            if not self._locked:
                self._apart()
            try:
                self._refuse_complete()
            except AlreadyComplete:
                self.part.unlink(missing_ok=True)
                raise
            with self._faults(self.part):
                self._file.truncate(0)
            self._hash = hashlib.sha256()
            self._write([",".join(self.columns)])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, kind=None, error=None, trace=None) -> None:
        if isinstance(error, ConfigError) and not self._begun:
            with contextlib.suppress(OSError):
                self.part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk has been reported; what is left is no complete run
            self._file.close()

    def _refuse_complete(self) -> None:
        if (run := self.store.load(self.config)) is not None:
            raise AlreadyComplete(run)

    @staticmethod
    @contextlib.contextmanager
    def _faults(path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror}): make room or move it away, then run the command again"
            ) from None

    def append(self, rows: list[dict]) -> None:
        """Add rows: dictionaries of column to number, blank where None. ValueError: no such column."""
        lines = []
        for row in rows:
            if unknown := set(row) - set(self.columns):
                raise ValueError(f"no such columns in a run's CSV: {sorted(unknown)}")
            lines.append(",".join(_cell(row.get(column)) for column in self.columns))
        self._write(lines)
        self._begun = True

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
        if not self._locked and (run := self.store.load(self.config)) is not None:
            self._drop()  # somebody else has completed it, whom no lock could keep out
            return run
        with self._faults(self.part):
            os.fsync(self._file.fileno())  # some file systems only say now that the disk is full
            if fcntl is None:  # Windows renames no open file
                self._file.close()
        json_path = self.path.with_suffix(".json")
        with self._faults(json_path):
            replace_file(json_path, lambda path: path.write_bytes(text.encode()))
        with self._faults(self.path):
            os.replace(self.part, self.path)
        self._file.close()
        run = self.store.load(self.config)
        if run is None:
            raise ConfigError(f"{self.path} was changed by another program while it was written: run again")
        return run

    def _write(self, lines: list[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        self._hash.update(data)
        with self._faults(self.part):
            self._file.write(data)
            self._file.flush()

    def _apart(self) -> None:
        """Write to a file of one's own where nothing tells whether somebody else writes to the usual one."""
        self._file.close()
        with contextlib.suppress(OSError):
            if not os.path.getsize(self.part):
                self.part.unlink()
        self.part = self.path.with_name(f"{self.path.stem}.{uuid.uuid4().hex[:12]}.csv.part")
        with self._faults(self.part):
            self._file = open(self.part, "ab")

    def _drop(self) -> None:
        self._file.close()
        self.part.unlink(missing_ok=True)

    def _lock(self) -> bool:
        """Whether the part is locked now: not where the system, or the file system, has no locks."""
        busy = ConfigError(f"{self.path.stem} is being recorded by another process: wait for it, or stop it")
        if fcntl is None:
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:  # a file system without locks
            return False
        # Between opening and locking, the other process may have renamed this very file to its final name.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.part)):
                return True
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
