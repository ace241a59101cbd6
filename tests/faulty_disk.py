"""A disk that fails at the k-th thing that is done below a folder: Python itself tells before it does one."""

import contextlib
import os
import sys
from pathlib import Path

#: Event of ``sys.audit`` -> the places of its paths.
EVENTS = {"open": (0,), "os.rename": (0, 1), "os.mkdir": (0,), "os.remove": (0,), "os.truncate": (0,)}
_active: list["Disk"] = []
_installed = []


class Disk:
    """Counts what is opened for writing, renamed, removed or made below ``folder``; the k-th of them raises OSError."""

    def __init__(self, folder: Path, k: int, error: int):
        self.folder, self.k, self.error, self.count, self.failed = str(folder), k, error, 0, False

    def heed(self, event: str, arguments: tuple) -> None:
        paths = [str(arguments[i]) for i in EVENTS[event] if isinstance(arguments[i], str | os.PathLike)]
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if any(path.startswith(self.folder) for path in paths):
            self.count += 1
            if self.count == self.k:
                self.failed = True
                raise OSError(self.error, os.strerror(self.error), paths[0])


def _hook(event: str, arguments: tuple) -> None:
    if event in EVENTS:
        for disk in _active:
            disk.heed(event, arguments)


@contextlib.contextmanager
def failing(folder: Path, k: int, error: int):
    """A disk that fails at the k-th access; 0 only counts."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    disk = Disk(folder, k, error)
    _active.append(disk)
    try:
        yield disk
    finally:
        _active.remove(disk)
