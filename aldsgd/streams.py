"""Random streams: each has a purpose and numbers of its own, so that no two of a run are the same by accident.

NumPy pads short seeds with zeros: [s, 2] and [s, 2, 0, 0] are one stream (numpy issue 16539). A purpose of
``PURPOSES`` therefore seeds through a spawn key, never padded, that begins with the purpose's number. The streams of
``RECORDED`` are older and stay as the committed runs drew them. Between those, and only there, a few coincide: the
split, the first pass of worker w, the coins of step w, the initial model of worker w, the random graph of seed 0 and
the w-th graph of a set start from the same words.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from aldsgd.errors import ConfigError, brief

#: Append only: the place in this list is part of the stream.
PURPOSES = (
    "noisy workers", "wrong labels", "torch", "graph", "own model", "statistics", "test", "builder",
    "second order", "second augmentation", "random leader", "subset", "schedule", "stragglers", "compute times",
    "lost messages", "random neighbour", "faults", "fault", "soak",
)  # fmt: skip
RECORDED: dict[str, Callable[..., list[int]]] = {
    "split": lambda seed: [seed],
    "order": lambda seed, worker, nth_pass: [seed, worker, nth_pass, 0],
    "augmentation": lambda seed, worker, epoch: [seed, worker, epoch, 1],
    "coins": lambda seed, t: [seed, t],
    "fixed choice": lambda seed: [seed],
    "initial model": lambda seed, worker: [seed, worker],
    "graph of seed 0": lambda seed: [seed],
    "set of graphs": lambda number: [number],
}
#: Of the choices that no run varies: subsets, test sets, samples for statistics.
FIXED_SEED = 1234
_WORD = 2**32


def sequence(purpose: str, seed: int, *numbers: int) -> np.random.SeedSequence:
    """The seed of one stream; KeyError for a purpose that is not declared here.

    Raises ConfigError for a seed outside 0..2^32 - 1: a longer one takes two words, of which the second could be
    another stream's first number. Numbers beyond that raise ValueError.
    """
    if not (isinstance(seed, (int, np.integer)) and 0 <= seed < _WORD):
        raise ConfigError(f"the seed must be a whole number from 0 to {_WORD - 1}, not {brief(seed)}")
    if not all(0 <= number < _WORD for number in numbers):
        raise ValueError(f"the numbers of a stream must be from 0 to {_WORD - 1}, not {numbers}")
    if purpose in RECORDED:
        return np.random.SeedSequence(RECORDED[purpose](seed, *numbers))
    if purpose not in PURPOSES:
        raise KeyError(f"the random stream {purpose!r} is not declared in aldsgd/streams.py")
    return np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *numbers))


def rng(purpose: str, seed: int, *numbers: int) -> np.random.Generator:
    """NumPy's generator of one stream."""
    return np.random.default_rng(sequence(purpose, seed, *numbers))


def torch_seed(purpose: str, seed: int, *numbers: int) -> int:
    """A seed for ``torch.manual_seed``, 0 to 2^63 - 1.

    torch's CPU generator keeps the lower 32 bits alone, too few to tell millions of streams apart by chance. So those
    of (worker, step) count: ten bits for the worker, 22 for the step, from a start that the rest of the numbers fixes.
    """
    counter = 0
    if purpose in PURPOSES and len(numbers) == 2:
        worker, step = numbers
        counter, numbers = worker % 2**10 + step % 2**22 * 2**10, (worker // 2**10, step // 2**22)
    start = _torch_start(purpose, seed, *numbers)
    return start // _WORD * _WORD + (start + counter) % _WORD


@lru_cache(maxsize=1024)
def _torch_start(purpose: str, seed: int, *numbers: int) -> int:
    # Kept, because the seed is asked for at every step of every worker.
    return int(sequence(purpose, seed, *numbers).generate_state(1, np.uint64)[0]) >> 1
