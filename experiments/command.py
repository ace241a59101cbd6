"""The frame of every script: what the user got wrong is one line and exit code 2, alone or between processes."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from aldsgd.errors import ConfigError


@dataclass
class Session:
    """One call of a script. started: from when ``--time-limit`` counts. world: its processes, once they have met."""

    started: float = field(default_factory=time.perf_counter)
    world: object = None

    @property
    def shared(self) -> bool:
        """Whether other processes are part of this call."""
        return self.world is not None and self.world.size > 1

    def of(self, error: BaseException) -> None:
        """Take the processes from an error that came before they had all met."""
        self.world = getattr(error, "world", None) or self.world

    def end(self, code: int) -> None:
        """Leave the script; between processes without tearing down connections, which could wait for a lost process,
        and without ending the interpreter, which aborts where a thread of torch is still at work."""
        if not self.shared:
            sys.exit(code)
        if code == 2:
            self.world.stop()
        for stream in (sys.stdout, sys.stderr, sys.__stderr__):
            stream.flush()
        self.world.abandon()
        os._exit(code)


def plain_warnings() -> None:
    """A warning is one line on stderr, without the place in the source."""
    warnings.showwarning = lambda message, *_args, **_kwargs: print(f"warning: {message}", file=sys.stderr, flush=True)


def command(main: Callable[[Session], None]) -> None:
    """Run a script's ``main``; what the user got wrong is one line on stderr and exit code 2.

    Under a launcher rank 0 alone prints, except that every rank says which other rank it waited for in vain, and ends
    with exit code 1.
    """
    session, errors = Session(), sys.stderr
    rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if rank.isdecimal() and size.isdecimal() and 0 < int(rank) < int(size):
        sys.stdout = sys.stderr = open(os.devnull, "w")
    plain_warnings()
    try:
        main(session)
        if session.shared:
            session.end(0)
    except ConfigError as error:
        session.of(error)
        alone = session.shared and not getattr(error, "on_all_ranks", False)
        print(f"error: {' '.join(str(error).split())}", file=errors if alone else sys.stderr)
        session.end(2)
    except MemoryError:
        print(
            "error: the memory is not enough; use fewer workers, samples or jobs, or a smaller model", file=sys.stderr
        )
        session.end(2)
    except KeyboardInterrupt:
        print("stopped; complete runs are kept, the same command goes on with the rest", file=sys.stderr)
        session.end(130)
    except BrokenPipeError:  # who read the output, such as head, has enough
        sys.stdout = open(os.devnull, "w")
        session.end(141)
    except OSError as error:
        what = f"{error.filename or 'a file'} cannot be used ({error.strerror or error})"
        print(f"error: {what}; make room, or name another folder", file=sys.stderr)
        session.end(2)
    except Exception as error:
        session.of(error)
        from aldsgd.training import TimeUp
        from aldsgd.world import PeerError

        if isinstance(error, TimeUp):
            print(f"{error}; the same command goes on from there", flush=True)
            session.end(0 if session.shared else 3)
        if not isinstance(error, PeerError):
            sys.stderr = errors
            raise
        if session.shared and session.world.stopped():
            session.end(2)
        # One piece, because several processes may write at once.
        errors.write(f"error: {error}\n")
        session.end(1)
