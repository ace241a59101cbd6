"""Codecs: bytes by hand, exact restoration, contraction; CHOCO-SGD against a plain transcription."""

import math

import numpy as np
import pytest
import torch

from aldsgd.codecs import QSGD, RandomSparse, Sign, Sparse, packed, uniform, unpacked
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph, paper_set
from aldsgd.leaders import ALDSGD
from aldsgd.links import Link
from aldsgd.schedules import hypercube
from aldsgd.step import Meter
from baselines.choco import CHOCO
from baselines.dpsgd import DPSGD, ReleasedDPSGD
from baselines.quasi_global import QuasiGlobal
from experiments.configuration import RunConfig, from_record
from tests.quadratics import Quadratics, end, gossip, random_graph, walk

CODECS = {
    "topk": Sparse(0.25), "two": Sparse(2), "randomk": RandomSparse(0.25), "sign": Sign(),
    "qsgd1": QSGD(1), "qsgd4": QSGD(4), "qsgd8": QSGD(8, biased=False),
}  # fmt: skip


def draw(length, step=0, worker=0, seed=0):
    return uniform(seed, torch.tensor([worker]), torch.tensor([step]), length)


def rows(length, dtype, seed=0):
    """Rows of every kind: usual, zero, with zeros and ties, tiny, huge, one entry."""
    rng = np.random.default_rng(seed)
    usual = rng.normal(size=length)
    ties = np.resize([0.0, -1.0, 1.0, 0.0, 1.0], length)
    one = np.zeros(length)
    one[length // 2] = -3.0
    found = [usual, 0 * usual, ties, usual * 1e-30, usual * 1e30, one, np.exp(3 * usual)]
    return [torch.tensor(row, dtype=dtype) for row in found]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_a_codec_makes_of_a_row_travels_exactly_in_as_many_bytes_as_it_says(codec, dtype):
    for length in (1, 7, 8, 9, 64, 1000):
        for row in rows(length, dtype):
            sent = codec(row, draw(length))
            wire = codec.pack(sent)
            assert wire.dtype == torch.uint8 and len(wire) == codec.size(length, row.element_size())
            assert torch.equal(codec.unpack(wire, row), sent) and sent.isfinite().all()


def test_bytes_are_those_counted_by_hand():
    # Of 1000 numbers: 100 with their places of ten bits; a bit each; five bits each; beside a scale.
    assert Sparse(0.1).size(1000, 4) == RandomSparse(0.1).size(1000, 4) == 100 * 4 + 125
    assert Sign().size(1000, 4) == 4 + 125 and QSGD(4).size(1000, 8) == 8 + 625
    assert Sparse(0.01).size(10, 4) == 4 + 1 and Sparse(50).size(10, 4) == 10 * 4 + 5
    assert Sparse(3).kept(2) == 2 and Sparse(1).kept(9) == 1


@pytest.mark.parametrize("bits", [1, 3, 5, 8, 9, 17])
def test_bits_are_packed_and_unpacked(bits):
    for count in (1, 2, 7, 8, 100):
        codes = torch.randint(2**bits, (count,), generator=torch.Generator().manual_seed(bits))
        data = packed(codes, bits)
        assert len(data) == math.ceil(count * bits / 8) and torch.equal(unpacked(data, count, bits), codes)


def test_top_k_and_random_k_contract_as_they_should():
    v = torch.tensor(np.random.default_rng(1).normal(size=200))
    whole, share = v.square().sum().item(), 0.3
    kept = Sparse(share)(v, draw(200))
    assert (kept - v).square().sum() <= (1 - share) * whole
    assert kept.count_nonzero() == 60 and kept.abs()[kept != 0].min() >= v.abs()[kept == 0].max()
    lost = [(RandomSparse(share)(v, draw(200, t)) - v).square().sum().item() for t in range(400)]
    assert np.mean(lost) == pytest.approx((1 - share) * whole, rel=0.02) and np.std(lost) > 0
    assert (Sign()(v, draw(200)) - v).square().sum().item() == pytest.approx(whole - v.abs().sum().item() ** 2 / 200)


def test_the_sign_of_zero_is_positive():
    sent = Sign()(torch.tensor([0.0, 0.0, -2.0, 2.0]))
    assert sent.tolist() == [1, 1, -1, 1]


def test_of_a_long_row_the_same_entries_are_kept_however_they_are_sought():
    v = torch.randn(3 * 2**16 + 5, generator=torch.Generator().manual_seed(0))
    steps = torch.linspace(-1, 1, len(v)).sign() * 0.5  # ties
    for row in (v, v.cumsum(0), v * (v > 3), 0 * v, steps, v.index_fill(0, torch.tensor([7]), torch.nan)):
        for count in (1, 100, 0.01, 0.4):
            kept, k = Sparse(count)(row), Sparse(count).kept(len(row))
            expected = row.abs().nan_to_num(torch.inf).topk(k).values
            assert torch.equal(kept.abs().nan_to_num(torch.inf).topk(k).values, expected)
            assert (kept != 0).sum() <= k and bool(((kept == row) | (kept == 0) | row.isnan()).all())


@pytest.mark.parametrize("bits", [1, 4])
def test_qsgd_is_unbiased_where_it_says_so_and_its_levels_are_those_of_the_norm(bits):
    v = torch.tensor(np.random.default_rng(2).normal(size=50))
    codec, levels = QSGD(bits, biased=False), 2**bits - 1
    drawn = torch.stack([codec(v, draw(50, t)) for t in range(2000)])
    # A level is off by less than one unit, whose standard deviation is at most a half.
    unit = v.norm().item() / levels
    np.testing.assert_allclose(drawn.mean(dim=0), v, rtol=0, atol=5 * unit / 2 / math.sqrt(2000))
    found = (drawn / unit).abs()
    np.testing.assert_allclose(found, found.round(), rtol=0, atol=1e-9)
    assert (drawn.sign() * v.sign()).min() >= 0
    shrink = 1 + min(50 / levels**2, math.sqrt(50) / levels)
    np.testing.assert_allclose(QSGD(bits)(v, draw(50)) * shrink, codec(v, draw(50)), rtol=1e-9)


def test_draws_are_uniform_and_belong_to_seed_worker_and_step():
    n = 20000
    found = draw(n).double() / 2**32
    assert found.min() >= 0 and found.max() < 1 and found.mean().item() == pytest.approx(0.5, abs=0.01)
    assert found.var().item() == pytest.approx(1 / 12, rel=0.03)
    for other in (draw(n, step=1), draw(n, worker=1), draw(n, seed=1), draw(n).roll(1)):
        assert abs(np.corrcoef(found, other.double())[0, 1]) < 0.03
    assert torch.equal(draw(n, 3, 2, 1), draw(n, 3, 2, 1))


# CHOCO-SGD


@pytest.mark.parametrize("codec", [None, *CODECS.values()], ids=["none", *CODECS])
def test_choco_equals_its_transcription(codec):
    graph, problem = random_graph(6, 3), Quadratics(6, p=12, seed=3)
    core = DPSGD(graph)
    W, x = gossip(core.alphas[0], graph.matchings), problem.start
    estimate = heard = 0 * x
    for t, *_, eta, after in walk(CHOCO(core, codec, 0.3, seed=5), problem, schedule="cosine"):
        x = x - eta * problem.gradient(x, t) + 0.3 * (heard - estimate)
        q = x - estimate
        if codec is not None:
            q = np.stack([codec(torch.tensor(q[i]), draw(12, t, i, seed=5)).numpy() for i in range(6)])
        estimate = estimate + q
        heard = W(estimate)
        for name, expected in (("x", x), ("estimate", estimate), ("heard", heard)):
            np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-12, err_msg=name)
        # From here both go on from the same numbers: a codec is a step function, of which rounding may change the step.
        x, estimate, heard = after["x"], after["estimate"], after["heard"]


def test_without_compression_it_is_combine_while_adapting_after_a_first_step_without_mixing():
    core, problem = DPSGD(random_graph(6, 4)), Quadratics(6)
    (first, *found), models = end(CHOCO(core, None, 1.0), problem), problem.start
    np.testing.assert_allclose(first, models - 0.1 * problem.gradient(models, 0), rtol=0, atol=1e-12)
    W = gossip(core.alphas[0], core.graphs[0].matchings)
    for t, x in enumerate(found, 1):
        first = W(first) - 0.1 * problem.gradient(first, t)
        np.testing.assert_allclose(x, first, rtol=0, atol=1e-12)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_the_mean_moves_as_without_gossip_and_agreement_is_reached(codec):
    problem, core = Quadratics(6, p=12), DPSGD(random_graph(6, 5))
    for _, before, g, eta, after in walk(CHOCO(core, codec, 0.2), problem):
        np.testing.assert_allclose(after["x"].mean(axis=0), (before["x"] - eta * g).mean(axis=0), rtol=0, atol=1e-12)
    still = end(CHOCO(core, codec, 0.1), problem, 200, lr=0.0)[-1]
    mean = problem.start.mean(axis=0)
    assert np.linalg.norm(still - mean) < 0.3 * np.linalg.norm(problem.start - mean)


def test_a_zero_difference_stays_zero_under_every_codec():
    """Models at zero with zero gradients: nothing may come of it, no NaN."""
    problem = Quadratics(4, p=6, noise=0.0)
    problem.b = np.zeros_like(problem.b)
    for codec in CODECS.values():
        found = end(CHOCO(DPSGD(random_graph(4, 1)), codec), problem, 5, start=np.zeros((4, 6)))
        np.testing.assert_array_equal(found, np.zeros_like(found))


def test_a_momentum_in_the_core_is_kept():
    graph, problem = random_graph(5, 6), Quadratics(5, p=8)
    core = DPSGD(graph)
    W, x, m = gossip(core.alphas[0], graph.matchings), problem.start, 0 * problem.start
    estimate = 0 * x
    for t, *_, eta, after in walk(CHOCO(QuasiGlobal(core, 0.8), Sparse(2), 0.3), problem):
        new = x - eta * (0.8 * m + problem.gradient(x, t)) + 0.3 * (W(estimate) - estimate)
        for i in range(5):
            for k in np.argsort(-np.abs(new[i] - estimate[i]), kind="stable")[:2]:
                estimate[i, k] = new[i, k]
        x, m = new, 0.8 * m + 0.2 * (x - new) / eta
        np.testing.assert_allclose(after["x"], x, rtol=0, atol=1e-12)


def test_the_meter_counts_packed_rows():
    """Seven edges, both ways, at 53.8 %."""
    for compressor, size in (("topk", 100 * 4 + 125), ("sign", 129), ("qsgd", 4 + 625)):
        algorithm = RunConfig(method="choco").but(compressor=compressor).algorithm(5)
        meter = Meter({name: (1000, 4) for name in ("x", *algorithm.state)}, 8, Link())
        for t in range(3):
            meter.count(algorithm.step(t))
        assert meter.bytes == 3 * 14 * size


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: end(CHOCO(ReleasedDPSGD(paper_graph(100)), Sign()), Quadratics(8)), "change from step to step"),
        (lambda: end(CHOCO(DPSGD(paper_set(100)), Sign()), Quadratics(8)), "change from step to step"),
        (lambda: end(CHOCO(DPSGD(hypercube(8)), Sign()), Quadratics(8)), "change from step to step"),
        (lambda: CHOCO(ALDSGD(DPSGD(paper_graph(100))), Sign()), "does not mix once"),
        (lambda: CHOCO(DPSGD(paper_graph(100)), Sign(), 0.0), "gamma = 0.0"),
        (lambda: RunConfig(method="choco").but(share=1.5).algorithm(5), "share = 1.5"),
        (lambda: RunConfig(method="choco").but(compressor="qsgd", bits=9).algorithm(5), "bits = 9"),
    ],
)
def test_what_does_not_fit_is_one_sentence(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_records_hold_only_what_has_an_effect():
    record = RunConfig(method="choco").but(compressor="sign").record()
    assert {"share", "bits"}.isdisjoint(record) and record["core"] == "dpsgd"
    assert from_record(record).record() == record
