"""Checkpoints of a run, from which it goes on after a crash, on as many processes as one likes.

A checkpoint is a folder ``epoch-000010`` with one file of named tensors per worker and ``state.json``: the identity of
the run, its state (the epoch, the meters, the rows recorded so far), the shapes of the tensors, the SHA-256 of every
file and of all that. It is written under another name and renamed when whole. Tensors are read with ``weights_only``,
the rest is JSON, so that loading executes no code. Batches, augmentation, dropout and schedules are functions of (seed,
worker, step): they have no state to keep.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from aldsgd.errors import ConfigError, brief

FORMAT = 2
KEPT = 2
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, RecursionError)


class Snapshot:
    """One whole checkpoint.

    Attributes:
        state, identity: what ``Checkpoints.save`` was given. tensors: ``layout`` of each worker's, by its number.
    """

    def __init__(self, path: Path):
        """Raises one of DAMAGED where the checkpoint is not whole, or is of another format."""
        self.path = path
        record = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"it has format {record['format']}, this version writes {FORMAT}")
        digest = record.pop("sha256")
        if _digest(record) != digest:
            raise ValueError("state.json was changed or damaged")
        if set(record["files"]) != {_name(int(worker)) for worker in record["tensors"]}:
            raise ValueError("it names other files than those of its workers")
        for name, checksum in record["files"].items():
            with open(path / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                    raise ValueError(f"{name} was changed or damaged")
        self.state, self.identity = record["state"], record["identity"]
        self.tensors = {int(worker): tensors for worker, tensors in record["tensors"].items()}

    def worker(self, worker: int) -> dict[str, Tensor]:
        """The tensors saved for ``worker``, on the CPU. Raises ConfigError where they are not those any more."""
        try:
            tensors = torch.load(self.path / _name(worker), map_location="cpu", weights_only=True)
            if layout(tensors) == self.tensors[worker]:
                return tensors
        except (*DAMAGED, pickle.UnpicklingError):
            pass
        raise ConfigError(f"{self.path / _name(worker)} was changed while the run goes on from it; start it again")


class Checkpoints:
    """The checkpoints of one run in ``folder``, which need not exist yet.

    identity: what determines the run's numbers (JSON-able), so that no other run goes on from them.
    """

    def __init__(self, folder: str | Path, identity: Mapping | str):
        self.folder, self.identity = Path(folder), json.loads(json.dumps(identity))

    def save(self, epoch: int, state: dict, workers: Iterable[tuple[int, Mapping[str, Tensor]]]) -> None:
        """Keep ``state`` (JSON-able) and the tensors of all workers, and drop all but the newest checkpoints.

        Raises ConfigError where the folder cannot be written; nothing of this checkpoint is left then.
        """
        target, partial = self.folder / f"epoch-{epoch:06d}", self.folder / ".partial"
        record = {"format": FORMAT, "identity": self.identity, "state": state, "tensors": {}, "files": {}}
        try:
            with self._writing(target):
                _drop(partial)
                partial.mkdir(parents=True)
            for worker, tensors in workers:
                # Copies: a view would be saved with the models of all workers behind it.
                tensors, buffer = {k: v.detach().cpu().clone() for k, v in tensors.items()}, io.BytesIO()
                torch.save(tensors, buffer)
                with self._writing(target):
                    (partial / _name(worker)).write_bytes(buffer.getbuffer())
                record["tensors"][str(worker)] = layout(tensors)
                record["files"][_name(worker)] = hashlib.sha256(buffer.getbuffer()).hexdigest()
            record = json.loads(json.dumps(record))
            with self._writing(target):
                text = json.dumps({**record, "sha256": _digest(record)})
                (partial / "state.json").write_text(text, encoding="utf-8")
                _drop(target)
                os.rename(partial, target)
        except BaseException:
            _drop(partial)
            raise
        for old in self._paths()[KEPT:]:
            _drop(old)

    def newest(self, check: Callable[[Snapshot], None] = lambda snapshot: None) -> Snapshot | None:
        """The newest whole checkpoint, or None; one that is damaged is passed over with a warning.

        check: raises ValueError (or KeyError, TypeError) for what cannot be of this run although it is whole, such as
        an epoch beyond the last: that is passed over too. Raises ConfigError for a checkpoint of another run, naming
        what differs, and for a folder that cannot be read.
        """
        for path in self._paths():
            try:
                snapshot = Snapshot(path)
                if snapshot.identity == self.identity:
                    check(snapshot)
                    return snapshot
            except DAMAGED as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                warnings.warn(f"the checkpoint {path} is passed over: {reason}", stacklevel=2)
                continue
            raise ConfigError(
                f"{self.folder} holds a checkpoint of another run ({_difference(snapshot.identity, self.identity)}); "
                "remove the folder to start anew, choose another, or give the settings of that run"
            )
        return None

    def remove(self) -> None:
        """Drop all checkpoints of the run, and the folder where nothing else is in it."""
        with contextlib.suppress(ConfigError, OSError):
            for path in (*self._paths(), self.folder / ".partial"):
                _drop(path)
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def _paths(self) -> list[Path]:
        """The checkpoints, newest first."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f"the checkpoints in {self.folder} cannot be read ({error.strerror})") from None
        return [self.folder / name for name in sorted(names, reverse=True) if name.startswith("epoch-")]

    @contextlib.contextmanager
    def _writing(self, target: Path):
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"the checkpoint {target} cannot be written ({error.strerror}); make room, or choose another --results"
            ) from None


def layout(tensors: Mapping[str, Tensor]) -> dict[str, list]:
    """{name: [shape, dtype]} of named tensors."""
    return {name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors.items()}


def check_progress(state: dict, epochs: int, expected: Callable[[int], list[tuple]]) -> None:
    """Raise ValueError (or KeyError, TypeError) unless ``state`` can be that of a run between two epochs.

    state: with "epoch", from 1 to epochs - 1, and "rows", one dictionary of numbers and None for each
    ("epoch", "worker") of ``expected(epoch)``, in that order.
    """
    epoch = state["epoch"]
    if type(epoch) is not int or not 0 < epoch < epochs:
        raise ValueError(f"epoch {brief(epoch)} is not between two of {epochs} epochs")
    rows = state["rows"]
    if [(row["epoch"], row["worker"]) for row in rows] != expected(epoch):
        raise ValueError(f"its rows are not those of {epoch} epochs")
    if not all(value is None or type(value) in (int, float) for row in rows for value in row.values()):
        raise ValueError("its rows hold something else than numbers")


def _difference(there, here) -> str:
    """What of two identities is not the same."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return f"{brief(there)} there, {brief(here)} here"
    differ = [key for key in {**there, **here} if there.get(key, "nothing") != here.get(key, "nothing")]
    parts = [
        f"{key} {brief(there.get(key, 'nothing'))} there, {brief(here.get(key, 'nothing'))} here" for key in differ
    ]
    return "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")


def _name(worker: int) -> str:
    return f"worker-{worker:05d}.pt"


def _digest(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _drop(path: Path) -> None:
    """Remove a file or a folder, as far as it can be."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
