"""Checkpoints of a run, from which it goes on after a crash, on as many processes as one likes.

A checkpoint is a folder ``epoch-000010`` with one file of tensors per worker and ``state.json``: the epoch, the meters,
the rows recorded so far, and the SHA-256 of every tensor file. It is written under another name and renamed when whole.
Tensors are read with ``weights_only``, the rest is JSON, so that loading executes no code. The optimizer is plain SGD,
and batches, augmentation, dropout and schedules are functions of (seed, worker, step): neither has a state to keep.
"""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from aldsgd.errors import ConfigError

FORMAT = 1
KEPT = 2


class Snapshot:
    """One whole checkpoint. ``state``: what ``Checkpoints.save`` was given."""

    def __init__(self, path: Path):
        """Raises OSError, ValueError, KeyError or TypeError where the checkpoint is not whole."""
        self.path = path
        record = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError("another format")
        for name, checksum in record["files"].items():
            if _checksum(path / name) != checksum:
                raise ValueError(f"{name} is damaged")
        self.state = record["state"]

    def worker(self, worker: int) -> list[Tensor]:
        """The tensors saved for ``worker``, on the CPU."""
        return torch.load(self.path / _name(worker), map_location="cpu", weights_only=True)


class Checkpoints:
    """The checkpoints of one run in ``folder``, which need not exist yet."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def save(self, epoch: int, state: dict, workers: Iterable[tuple[int, list[Tensor]]]) -> None:
        """Keep ``state`` (JSON-able) and the tensors of all workers, and drop all but the newest checkpoints.

        Raises ConfigError where the folder cannot be written.
        """
        target, partial, files = self.folder / f"epoch-{epoch:06d}", self.folder / ".partial", {}
        workers = iter(workers)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for worker, tensors in workers:
                # Copies: a view would be saved with the models of all workers behind it.
                torch.save([tensor.detach().cpu().clone() for tensor in tensors], partial / _name(worker))
                files[_name(worker)] = _checksum(partial / _name(worker))
            text = json.dumps({"format": FORMAT, "files": files, "state": state})
            (partial / "state.json").write_text(text, encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            os.rename(partial, target)
        except OSError as error:
            raise ConfigError(
                f"the checkpoint {target} cannot be written ({error.strerror}); make room, or choose another --results"
            ) from None
        for old in self._paths()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self) -> Snapshot | None:
        """The newest whole checkpoint, or None; a damaged one is passed over with a warning."""
        for path in self._paths():
            try:
                return Snapshot(path)
            except (OSError, ValueError, KeyError, TypeError):
                warnings.warn(f"the checkpoint {path} is damaged and passed over", stacklevel=2)
        return None

    def remove(self) -> None:
        """Drop all checkpoints of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*"), reverse=True)


def _name(worker: int) -> str:
    return f"worker-{worker:05d}.pt"


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
