"""Random streams: all pairs differ, but for those that the committed runs drew and that are listed here."""

import ast
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aldsgd.data import Batches, split
from aldsgd.datasets import FIXED_SEED, load
from aldsgd.differences import label_noise
from aldsgd.errors import ConfigError
from aldsgd.streams import PURPOSES, RECORDED, rng, sequence, torch_seed

ROOT = Path(__file__).resolve().parents[1]
STEPS, PASSES, EPOCHS = 40, 5, 6


def bits(stream) -> tuple:
    """256 bits of what a generator would be seeded with."""
    return tuple(sequence(*stream).generate_state(8))


def streams_of_a_run(n: int, seed: int) -> list[tuple]:
    """(purpose, seed, numbers) of all that a run of n workers can draw, on a random graph and its copies."""
    workers = range(n)
    return [
        ("split", seed),
        *(("order", seed, i, nth) for i in workers for nth in range(PASSES)),
        *(("augmentation", seed, i, epoch) for i in workers for epoch in range(EPOCHS)),
        *(("coins", seed, t) for t in range(STEPS)),
        *(("initial model", seed, i) for i in workers),
        *((purpose, seed, i) for purpose in ("own model", "builder") for i in workers),
        *(("test", seed, i) for i in range(n + 1)),
        *(("second order", seed, i, nth) for i in workers for nth in range(PASSES)),
        *(("second augmentation", seed, i, epoch) for i in workers for epoch in range(EPOCHS)),
        *(("random leader", seed, t) for t in range(STEPS)),
        ("subset", seed),
        ("noisy workers", seed),
        *(("schedule", seed, t) for t in range(STEPS)),
        ("stragglers", seed),
        *(
            (purpose, seed, i, block)
            for purpose in ("compute times", "lost messages", "random neighbour")
            for i in workers
            for block in range(EPOCHS)
        ),
        *(("faults", seed, place) for place in range(3)),
        *(("fault", seed, i, t) for i in workers for t in range(STEPS)),
        *(("soak", seed, number) for number in range(3)),
        *(("wrong labels", seed, i) for i in workers),
        *(("torch", seed, i, t) for i in workers for t in range(STEPS)),
        ("statistics", FIXED_SEED),
        ("fixed choice", FIXED_SEED),
        ("graph", seed + 1),
        ("graph of seed 0", 0),
        *(("set of graphs", number) for number in (1, 2)),
    ]


def recorded_coincidences(n: int, seed: int) -> set[frozenset]:
    """What committed runs drew twice from one stream, for other purposes: their numbers stay as they were published."""
    first = {("split", seed), ("order", seed, 0, 0), ("coins", seed, 0), ("initial model", seed, 0)}
    first |= {("graph of seed 0", 0)} if seed == 0 else set()
    first |= {("set of graphs", seed)} if seed in (1, 2) else set()
    first |= {("fixed choice", FIXED_SEED)} if seed == FIXED_SEED else set()
    later = [{("order", seed, i, 0), ("coins", seed, i), ("initial model", seed, i)} for i in range(1, n)]
    return {frozenset(group) for group in (first, *later)}


@pytest.mark.parametrize("n", [8, 11, 16])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, FIXED_SEED])
def test_no_two_streams_of_a_run_coincide_but_the_recorded(n, seed):
    streams, found = streams_of_a_run(n, seed), defaultdict(set)
    assert len(set(streams)) == len(streams)
    assert {purpose for purpose, *_ in streams} == {*PURPOSES, *RECORDED}
    for stream in streams:
        found[bits(stream)].add(stream)
    assert {frozenset(group) for group in found.values() if len(group) > 1} == recorded_coincidences(n, seed)


@pytest.mark.parametrize("n, seed", [(8, 0), (16, 0), (16, 1024)])
def test_torch_draws_from_as_many_streams(n, seed):
    """On a CPU torch keeps 32 bits of a seed."""
    kept = [torch_seed("torch", seed, i, t) % 2**32 for i in range(n) for t in range(STEPS)]
    kept += [
        torch_seed(purpose, seed, i) % 2**32 for purpose in ("initial model", "own model", "test") for i in range(n)
    ]
    assert len(set(kept)) == len(kept)
    draws = torch.stack([torch.rand(8, generator=torch.Generator().manual_seed(number)) for number in kept])
    assert len(torch.unique(draws, dim=0)) == len(kept)


def test_torch_streams_of_one_run_differ_by_construction():
    # 1.6 million seeds of 32 bits drawn by chance would hold some 300 pairs.
    steps = np.arange(100_000)
    start = torch_seed("torch", 5, 0, 0)
    assert [torch_seed("torch", 5, i, t) - start for i, t in ((0, 1), (1, 0), (3, 70_000))] == [
        1024,
        1,
        3 + 1024 * 70_000,
    ]
    kept = np.concatenate([(start % 2**32 + i + 1024 * steps) % 2**32 for i in range(16)])
    assert len(np.unique(kept)) == kept.size
    assert len({torch_seed("torch", 5, i, t) for i in (0, 1024, 2048) for t in (0, 2**22, 2**23)}) == 9


numbers = st.integers(0, 3) | st.integers(0, 2**32 - 1)
declared = st.tuples(st.sampled_from(PURPOSES), numbers, st.lists(numbers, max_size=3)).map(lambda t: (*t[:2], *t[2]))


@given(declared, declared)
@settings(max_examples=500, deadline=None)
def test_declared_streams_differ_whatever_their_numbers(one, other):
    assert (bits(one) == bits(other)) == (one == other)
    # Zeros at the end, which numpy adds to a short list by itself, make another stream.
    assert len({bits(one), bits((*one, 0)), bits((*one, 0, 0))}) == 3
    assert torch_seed(*one) != torch_seed(one[0], (one[1] + 1024) % 2**32, *one[2:])


@given(declared, st.sampled_from(sorted(RECORDED)), numbers, st.integers(0, 50), st.integers(0, 50))
@settings(max_examples=300, deadline=None)
def test_declared_streams_are_none_of_the_recorded(one, purpose, seed, first, second):
    given_numbers = (first, second)[: RECORDED[purpose].__code__.co_argcount - 1]
    assert bits(one) != bits((purpose, seed, *given_numbers))


def test_recorded_streams_keep_their_bits():
    for stream, words in [
        (("split", 7), [7]),
        (("order", 7, 3, 2), [7, 3, 2, 0]),
        (("augmentation", 7, 3, 2), [7, 3, 2, 1]),
        (("coins", 7, 39), [7, 39]),
        (("graph of seed 0", 0), [0]),
        (("set of graphs", 2), [2]),
    ]:
        assert np.array_equal(rng(*stream).random(4), np.random.default_rng(words).random(4))
    expected = int(np.random.SeedSequence([7, 3]).generate_state(1, np.uint64)[0]) >> 1
    assert torch_seed("initial model", 7, 3) == expected < 2**63


def test_noisy_workers_meet_their_wrong_labels_anywhere_in_a_pass():
    """With one stream for both, the third pass showed all 60 wrong labels of a noisy worker before the right ones."""
    data, size = load("digits").subset(800, 50), 100
    shards = split(data.train_targets, 8, "iid", 3)
    wrong = label_noise(data, shards, 8, 0.6, 3).train_targets != data.train_targets
    batches = Batches(shards, size, 1, 3)
    first = np.array([wrong[batches.epoch(e, range(8)).index[:, 0, :60]].sum(dim=1).numpy() for e in range(6)])
    # Hypergeometric: 36 of the first 60, with a standard deviation of 2.4.
    assert first.min() > 24 and first.max() < 48


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30, -(10**30), 1.5, None, "1", float("nan")])
def test_a_seed_of_more_than_one_word_is_refused(seed):
    with pytest.raises(ConfigError, match="the seed must be a whole number from 0 to 4294967295, not"):
        rng("graph", seed)


def test_undeclared_purposes_and_long_numbers_are_refused():
    with pytest.raises(KeyError, match="'dice' is not declared"):
        rng("dice", 0)
    with pytest.raises(ValueError, match="from 0 to"):
        rng("graph", 0, 2**32)


def test_nothing_of_a_run_is_seeded_by_hand():
    """Every generator is made from a declared stream; the theory's own experiments are no runs."""
    seeding = {"default_rng", "SeedSequence", "manual_seed", "RandomState", "seed"}
    seeders = ("torch.Generator().manual_seed", "torch.manual_seed", "torch.default_generator.manual_seed",
               "torch.cuda.manual_seed", "random.seed", "np.random.seed")  # fmt: skip
    seeded = tuple(f"{seeder}(torch_seed(" for seeder in seeders)
    found = 0
    for path in (*ROOT.glob("aldsgd/**/*.py"), *ROOT.glob("baselines/*.py")):
        if path.parent.name == "theory" or path.stem == "streams":
            continue
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in seeding:
                assert ast.unparse(call).startswith(seeded), f"{path}: {ast.unparse(call)}"
                found += 1
    assert found
