"""A2CiD2: against a plain simulation, what it conserves, what it is without its momentum, and what that is good for."""

import heapq

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from aldsgd.errors import ConfigError
from aldsgd.graphs import complete, ring
from baselines.acid import A2CiD2, constants
from experiments.configuration import RunConfig
from tests.crashing import crash
from tests.test_virtual import BASE, Plain, trainer

UNEVEN = dict(times="lognormal", stragglers=2, slowdown=3.0, latency=2e-3)


class Flowing(Plain):
    """A2CiD2 as its equations: at every event all workers flow, by a matrix exponential."""

    def simulate(self, until, latency, h, a):
        near, both = self.run.algorithm.near, torch.stack([torch.stack(self.x)] * 2)
        velocity, count, events, order, last = torch.zeros_like(both[0]), [0] * self.n, [], 0, 0.0

        def flowed(now):
            nonlocal both, last
            flow = torch.from_numpy(expm((now - last) * np.array([[-h, h], [h, -h]])))
            both, last = torch.einsum("ab,bnp->anp", flow, both), now

        def begin(i, now):
            nonlocal order
            order += 1
            heapq.heappush(events, (now + self.run.times(i, count[i]), 0, order, i, (now, both[0, i].clone())))
            j = near[i][int(self.run.algorithm.draw(i, count[i]) * len(near[i]))]
            heapq.heappush(events, (now + latency, 1, order, j, i))

        for i in range(self.n):
            begin(i, 0.0)
        while events[0][0] <= until:
            now, kind, _, i, body = heapq.heappop(events)
            flowed(now)
            if kind == 1:
                way = both[0, body] - both[0, i]
                for k, sign in ((i, 1), (body, -1)):
                    both[0, k] += sign * way / 2
                    both[1, k] += sign * a * way
                continue
            began, self.x[i] = body
            velocity[i] = 0.9 * velocity[i] + self.gradient(i, count[i])[1]
            both[:, i] -= (0.1 if began < 2 * self.run.steps else 0.01) * velocity[i]
            count[i] += 1
            begin(i, now)
        flowed(until)
        return both, count


def test_the_engine_against_a_plain_simulation():
    changes = dict(method="acid", graph="paper:53.8", **UNEVEN)
    run = trainer(**changes)
    both, count = Flowing(run, BASE.but(**changes)).simulate(9, 0.2, run.algorithm.h, run.algorithm.a)
    run.run()
    assert run.events.count == count and run.algorithm.h > 0.1
    assert torch.allclose(run.state.x, both[0], rtol=0, atol=1e-12)
    assert torch.allclose(run.state.tilde, both[1], rtol=0, atol=1e-12)


def test_constants_of_a_ring_and_a_complete_graph():
    """n workers on a ring: every edge averages once a unit, and has the resistance (n - 1) / n; the second eigenvalue
    is 2 - 2 cos(2 pi / n). All with all: every eigenvalue but one is 2 n / (n - 1), every resistance (n - 1) / n^2."""
    n = 12
    h, a = A2CiD2(ring(n)).h, A2CiD2(ring(n)).a
    c1, c2 = 1 / (2 - 2 * np.cos(2 * np.pi / n)), (n - 1) / n / 2
    assert (h, a) == pytest.approx((1 / (2 * np.sqrt(c1 * c2)), np.sqrt(c1 / c2) / 2))
    h, a = constants(A2CiD2(complete(n)).near)
    assert (h, a) == pytest.approx((n / (n - 1), 0.5))  # nothing to be accelerated
    assert constants([[], []]) == (0.0, 0.5)
    assert constants([[1], [0], [3], [2]]) == pytest.approx(constants([[1], [0]]))


def test_without_its_momentum_it_is_adpsgd_bit_for_bit():
    shape = dict(**UNEVEN, message_loss=0.2, faults=("return:3:0.5:1.5", "leave:2:1.1"))
    plain, still = trainer(method="adpsgd", **shape), trainer(method="acid", eta_h=0.0, **shape)
    rows = [[{k: v for k, v in row.items() if "seconds" not in k} for row in run.run().rows] for run in (plain, still)]
    assert torch.equal(plain.state.x, still.state.x) and repr(rows[0]) == repr(rows[1])


def test_both_means_are_conserved_and_the_momentum_speeds_agreement_up_on_a_ring():
    shape = dict(workers=20, batch=4, lr=0.0, times="exponential", epochs=6, graph="ring")
    left = {}
    for name, changes in {"plain": dict(eta_h=0.0), "fast": {}}.items():
        run = trainer(method="acid", **shape, **changes)
        mean, first = run.state.x.mean(dim=0), (run.state.x - run.state.x.mean(dim=0)).square().sum()
        run.run()
        for rows in (run.state.x, run.state.tilde):
            assert torch.allclose(rows.mean(dim=0), mean, rtol=0, atol=1e-12)
        left[name] = ((run.state.x - mean).square().sum() / first).item()
    assert left["fast"] < left["plain"] / 2


@pytest.mark.filterwarnings("error")
def test_a_crash_changes_nothing(tmp_path):
    changes = dict(method="acid", **UNEVEN, message_loss=0.2, faults=("return:3:0.5:1.5",), epochs=4,
                   precision="float32")  # fmt: skip
    unhit, crashed, again = (trainer(**changes) for _ in range(3))
    expected = unhit.run().rows
    crash(crashed, tmp_path / "run", 2)
    found = again.run(checkpoints=tmp_path / "run", checkpoint_every=1).rows
    plain = [[{k: v for k, v in row.items() if "seconds_" not in k} for row in rows] for rows in (found, expected)]
    assert repr(plain[0]) == repr(plain[1])
    assert torch.equal(again.state.x, unhit.state.x) and torch.equal(again.state.tilde, unhit.state.tilde)


def test_coefficients_below_zero_are_one_sentence():
    with pytest.raises(ConfigError, match="eta_h = -1"):
        RunConfig(method="acid").but(eta_h=-1.0).algorithm(5)
