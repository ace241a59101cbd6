"""Worker processes with a connection each, so that it is known which task a lost one had."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait


class Pool:
    """``jobs`` processes that run ``work(connection, *arguments)``: receive a task, send (seconds, error or None)."""

    def __init__(self, jobs: int, work: Callable, *arguments):
        self.context, self.work, self.arguments = multiprocessing.get_context("spawn"), work, arguments
        self.workers = [self._start() for _ in range(jobs)]

    def _start(self):
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=self.work, args=(theirs, *self.arguments), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    def run(self, tasks: Sequence) -> Iterator[tuple]:
        """Hand out ``tasks``, in order; yields (task, seconds, error or None) as each ends."""
        waiting, busy = list(reversed(tasks)), {}
        idle = list(range(len(self.workers)))
        while waiting or busy:
            while waiting and idle:
                place = idle.pop(0)
                busy[place] = waiting.pop()
                try:
                    self.workers[place][0].send(busy[place])
                except ConnectionError:  # it was lost while it had nothing to do
                    self.workers[place] = self._start()
                    self.workers[place][0].send(busy[place])
            ready = set(wait([self.workers[place][0] for place in busy]))
            for place in [place for place in busy if self.workers[place][0] in ready]:
                connection, process = self.workers[place]
                task = busy.pop(place)
                try:
                    seconds, error = connection.recv()
                except (EOFError, ConnectionError):
                    process.join()
                    seconds, error = 0.0, f"its process ended with exit code {process.exitcode}"
                    self.workers[place] = self._start()
                idle.append(place)
                yield task, seconds, error

    def close(self, patience: float) -> None:
        """Let every process end, and end it after ``patience`` seconds."""
        for connection, _ in self.workers:
            with contextlib.suppress(OSError):
                connection.send(None)
        for connection, process in self.workers:
            process.join(patience)
            process.terminate()
            process.join()
            connection.close()
