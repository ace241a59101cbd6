"""Random streams: each has a purpose and numbers of its own, so that no two of a run are the same by accident.

NumPy pads short seeds with zeros: [s, 2] and [s, 2, 0, 0] are one stream (numpy issue 16539). A purpose of ``PURPOSES``
therefore seeds through a spawn key, which is never padded and begins with the number of the purpose. The streams of
``RECORDED`` are older and stay as the committed runs drew them. Between those, and only there, a few coincide: the split,
the first pass of worker w, the coins of step w and the initial model of worker w start from the same words.
"""

import hashlib
from collections.abc import Callable

import numpy as np

#: Append only: the place in this list is part of the stream.
PURPOSES = ("noisy workers", "wrong labels", "torch", "graph", "own model", "statistics")
RECORDED: dict[str, Callable[..., list[int]]] = {
    "split": lambda seed: [seed],
    "order": lambda seed, worker, nth_pass: [seed, worker, nth_pass, 0],
    "augmentation": lambda seed, worker, epoch: [seed, worker, epoch, 1],
    "coins": lambda seed, t: [seed, t],
    "fixed choice": lambda seed: [seed],
    "initial model": lambda seed, worker: [seed, worker],
}


def sequence(purpose: str, seed: int, *numbers: int) -> np.random.SeedSequence:
    """The seed of one stream; KeyError for a purpose that is not declared here."""
    if purpose in RECORDED:
        return np.random.SeedSequence(RECORDED[purpose](seed, *numbers))
    if purpose not in PURPOSES:
        raise KeyError(f"the random stream {purpose!r} is not declared in aldsgd/streams.py")
    return np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *numbers))


def rng(purpose: str, seed: int, *numbers: int) -> np.random.Generator:
    """NumPy's generator of one stream."""
    return np.random.default_rng(sequence(purpose, seed, *numbers))


def torch_seed(purpose: str, seed: int, *numbers: int) -> int:
    """A seed for ``torch.manual_seed``, 0 to 2^63 - 1; a hash, because it is asked for at every step of every worker."""
    if purpose in RECORDED:
        return int(sequence(purpose, seed, *numbers).generate_state(1, np.uint64)[0] >> 1)
    text = f"{PURPOSES.index(purpose)} {seed} {numbers}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
