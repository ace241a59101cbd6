"""The processes of one job: how they find each other, agree, and end together.

A launcher such as ``torchrun`` starts R processes and tells each its number in the environment. What is said here is a
few short texts through the launcher's key-value store, before and after training; models travel in
``aldsgd.distributed``.
"""

import numbers
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from aldsgd.errors import ConfigError, brief
from aldsgd.matchings import is_number

T = TypeVar("T")
TIMEOUT, LONGEST = 300.0, 1e6
# A process counts as silent when none of its beats arrives while another listens.
BEAT, LISTEN = 0.5, 2.0
# How gloo, NCCL and the store put it that the other end is gone.
LOST = re.compile(
    r"connection (was )?(likely )?(closed|reset|refused|aborted)|closed by peer|broken pipe|time[ds]? ?out|pair closure"
    r"|remote process exited|(recv|send)\w* failed|failed to (recv|send)|got 0 bytes|communicator was aborted",
    re.IGNORECASE,
)
UNSET = "a launcher such as torchrun sets RANK, WORLD_SIZE and the like; unset them to run in one process"
ENDING = "what was recorded is kept, and the same command goes on from the last checkpoint"


class PeerError(RuntimeError):
    """Another process of the job was lost or did not answer in time; the message is one sentence."""


class World:
    """The R processes of a job, seen from one of them. Made by ``join``.

    As a context manager it is left at the end of the block; an exception that ends the block leaves nothing, and has
    the world as its attribute ``world``, so that who catches it can tell the other processes.

    Attributes:
        rank, size: number of this process, and of all. device: its own. timeout: seconds to wait for another process.
    """

    def __init__(self, device: str = "cpu", rank: int = 0, size: int = 1, timeout: float = TIMEOUT, store=None):
        self.device, self.rank, self.size, self.timeout = device, rank, size, timeout
        self._store, self._texts, self._left = store, 0, threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        if size > 1:
            self._beats.start()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, _kind, error, _trace) -> None:
        if error is None:
            self.leave()
        else:
            error.world = self

    def together(self, function: Callable[[], T]) -> T:
        """``function()`` on every rank; a ConfigError on one is raised on all, with the same message."""
        result, message = None, ""
        try:
            result = function()
        except ConfigError as error:
            if self.size == 1:
                raise
            message = str(error)
        for rank, text in enumerate(self._exchange(message)):
            if text:
                error = ConfigError(text if rank == 0 else f"{text} (on rank {rank})")
                error.on_all_ranks = True
                raise error
        return result

    def first(self, function: Callable[[], str]) -> str:
        """The text that ``function()`` returns on rank 0, on every rank; as ``together`` where it fails."""
        text = self.together(lambda: function() if self.rank == 0 else "")
        return self._exchange(text)[0]

    def _exchange(self, text: str) -> list[str]:
        """The text of every rank, in order."""
        if self.size == 1:
            return [text]
        self._texts += 1
        with self.names(lambda: "the others"):
            self._store.set(f"text/{self._texts}/{self.rank}", text.encode())
        return [self._read(f"text/{self._texts}/{rank}", rank) for rank in range(self.size)]

    def _read(self, key: str, rank: int) -> str:
        # Asking again and again, because a blocking wait would lock the store and with it this rank's beats.
        deadline = time.monotonic() + self.timeout
        with self.names(lambda: f"rank {rank}"):
            while not self._store.check([key]):
                if time.monotonic() > deadline:
                    raise RuntimeError("timed out")
                time.sleep(0.005)
            return self._store.get(key).decode()

    @contextmanager
    def names(self, peers: Callable[[], str], step: int | None = None) -> Iterator[None]:
        """Turn the failure of an exchange into a PeerError that names the step and the ``peers`` waited for.

        Where neither silence nor a lost connection is the reason, the sentence holds torch's own.
        """
        started = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            when, reason = "before the first step" if step is None else f"at step {step}", first_line(error)
            if time.monotonic() - started > 0.9 * self.timeout:
                how = f"waited for {peers()}, which did not answer within {self.timeout:g} s"
            elif LOST.search(str(error)):
                how = f"waited for {peers()}, whose connection was lost"
            else:
                how = f"could not exchange with the others ({reason})"
            raise PeerError(f"{when} rank {self.rank} {how}; {ENDING}") from error

    def _beat(self) -> None:
        beats = 0
        while not self._left.wait(BEAT):
            beats += 1
            try:
                self._store.set(f"beat/{self.rank}", str(beats))
            except RuntimeError:
                return

    def silent(self) -> str:
        """The ranks that give no sign of life, in words; "the others" where all do, as when one is only slow."""

        def beats():
            keys = [f"beat/{rank}" for rank in range(self.size)]
            return [self._store.get(key) if self._store.check([key]) else None for key in keys]

        try:
            # A rank that noticed before this one, and has ended, is not the one that was lost.
            self._store.set(f"noticed/{self.rank}", "1")
            before = beats()
            time.sleep(LISTEN)
            after = beats()
            noticed = [self._store.check([f"noticed/{rank}"]) for rank in range(self.size)]
        except RuntimeError:
            return "rank 0"
        quiet = [r for r in range(self.size) if not noticed[r] and before[r] == after[r]]
        return in_words(quiet) if quiet else "the others"

    def stop(self) -> None:
        """Tell the others that this rank ends on an error of the user, so that they end as quietly."""
        if self.size > 1:
            self._store.set("stopped", "1")

    def stopped(self) -> bool:
        """Whether some rank said ``stop``."""
        try:
            return self.size > 1 and self._store.check(["stopped"])
        except RuntimeError:
            return False

    def abandon(self) -> None:
        """Wait, before this rank ends without ``leave``, for those that have yet to read from the store it may keep."""
        if self.rank == 0 and self.size > 1 and not self._left.is_set():
            time.sleep(LISTEN)

    def leave(self) -> None:
        """Part from the other processes after the last exchange."""
        self._left.set()
        if self._beats.is_alive():
            # A thread that is inside the store while the interpreter ends would abort the whole process.
            self._beats.join(self.timeout)
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def first_line(error: BaseException) -> str:
    """What torch says, without its source lines, conditions and stack."""
    text = str(error).strip() or type(error).__name__
    return re.sub(r"^\[(enforce fail at )?\S*:\d+\]\s*(\S+ [!=]= \S+\. )?", "", text.splitlines()[0]).rstrip(". ")


def in_words(ranks: list[int]) -> str:
    """[2] -> "rank 2", [1, 2] -> "ranks 1, 2"."""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def launched() -> tuple[int, int]:
    """(rank, size) as the launcher says; (0, 1) without one. Raises ConfigError where they make no sense."""
    rank, size = environment_number("RANK", 0), environment_number("WORLD_SIZE", 1)
    if not rank < size:
        raise ConfigError(f"RANK={rank} and WORLD_SIZE={size} in the environment: {UNSET}")
    return rank, size


def environment_number(name: str, default: int) -> int:
    """A whole number that a launcher puts into the environment."""
    text = os.environ.get(name, str(default))
    if not is_number(text):
        raise ConfigError(f"{name}={brief(text)} in the environment is not a whole number: {UNSET}")
    return int(text)


def join(device: str = "cpu", timeout: float = TIMEOUT) -> World:
    """Meet the other processes that the launcher started; without a launcher, a world of one.

    Args:
        device: "cpu" (gloo) or "cuda" (NCCL, each process on the GPU of its local number).
        timeout: seconds after which a process that does not answer ends the job.

    Raises:
        ConfigError: more processes than GPUs, a device that every process would share, a timeout or an environment
            that makes no sense.
        PeerError: the processes did not meet.
    """
    if not (isinstance(timeout, numbers.Real) and 0 < timeout <= LONGEST):
        raise ConfigError(f"--timeout {brief(timeout)} must be a number of seconds above zero, up to {LONGEST:.0f}")
    rank, size = launched()
    if size == 1:
        return World(device)
    if environment_number("MASTER_PORT", 0) > 65535:
        raise ConfigError(f"MASTER_PORT={os.environ['MASTER_PORT']} in the environment is no port: {UNSET}")
    limit = timedelta(seconds=float(timeout))
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=limit))
        store = meet(dist.PrefixStore("aldsgd", store), rank, size, timeout)
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"the {size} processes did not meet: {first_line(error)}") from error
    world = World(device, rank, size, timeout, store)
    try:
        return connected(world, device)
    except BaseException as error:
        error.world = world
        raise


def connected(world: World, device: str) -> World:
    """The world, once models can pass between its processes."""
    world.device = world.together(lambda: own_device(device))
    cuda = world.device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(world.device)
        # Only a wait that blocks can fail here, where it can say what it waited for; else NCCL's watchdog aborts.
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    with world.names(world.silent):
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=world._store,
            rank=world.rank,
            world_size=world.size,
            timeout=timedelta(seconds=float(world.timeout)),
        )
        # The first collective, with all ranks in it: NCCL asks for one before any exchange between two.
        dist.all_reduce(torch.zeros(1, device=world.device))
    return world


def meet(store: dist.Store, rank: int, size: int, timeout: float) -> dist.Store:
    """A store of their own for the processes that are alive now.

    The launcher's store outlives a restart, keys and all, and nodes may count restarts differently. So rank 0 makes up
    a name, and tells it to each rank that has said hello with a number of its own, which the answer repeats.
    Raises RuntimeError naming the ranks that did not come within ``timeout`` seconds.
    """
    deadline, own = time.monotonic() + timeout, uuid.uuid4().hex

    def read(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    def pause(missing: list[int]) -> None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{in_words(missing)} did not come within {timeout:g} s")
        time.sleep(0.01)

    if rank > 0:
        store.set(f"hello/{rank}", own)
        while not (answer := read(f"welcome/{rank}")).endswith(own):
            pause([0])
        name = answer.removesuffix(own)
        store.set(f"met/{name}/{rank}", "1")
        return dist.PrefixStore(name, store)
    missing, greeted = list(range(1, size)), {}
    while missing:
        for other in missing:
            hello = read(f"hello/{other}")
            if hello != greeted.get(other, ""):
                store.set(f"welcome/{other}", own + hello)
                greeted[other] = hello
        missing = [other for other in missing if not read(f"met/{own}/{other}")]
        if missing:
            pause(missing)
    return dist.PrefixStore(own, store)


def own_device(device: str) -> str:
    """The device of this process. Raises ConfigError where a GPU would have to serve several processes."""
    if not device.startswith("cuda"):
        return device
    local, count = environment_number("LOCAL_RANK", 0), torch.cuda.device_count()
    here = environment_number("LOCAL_WORLD_SIZE", 1)
    if here > 1 and device != "cuda":
        raise ConfigError(
            f"--device {device} would be shared by {here} processes; give --device cuda, one GPU for each"
        )
    if here > count:
        raise ConfigError(
            f"{here} processes on a machine with {count} GPU{'s' * (count != 1)}, and NCCL takes one process per GPU; "
            f"start {max(count, 1)} (--nproc_per_node {max(count, 1)}), and each will host several workers"
        )
    return f"cuda:{local}" if device == "cuda" else device
