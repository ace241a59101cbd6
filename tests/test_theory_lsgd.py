"""The landscapes and batch methods behind the claims of LSGD, and how those are judged."""

import sys

import numpy as np
import pandas as pd
import pytest

from aldsgd.theory import records
from aldsgd.theory.landscapes import descend, egg_box, factorisation, wells
from baselines.easgd import EASGD
from baselines.lgd import LGD
from experiments import theory_lsgd
from tables.theory_lsgd import lsgd_statements
from tests.leading import Problem, walk

LANDSCAPES = {"tilted": wells(0.2), "equal": wells(0.0), "egg box": egg_box(), "factorisation": factorisation()}


@pytest.mark.parametrize("name", LANDSCAPES)
def test_gradients_are_those_of_the_values_and_the_saddle_is_one(name):
    landscape, rng = LANDSCAPES[name], np.random.default_rng(0)
    x = landscape.starts(rng, 20, 3)
    for k in range(x.shape[-1]):
        e = np.zeros(x.shape[-1])
        e[k] = 1e-5
        slope = (landscape.value(x + e) - landscape.value(x - e)) / 2e-5
        np.testing.assert_allclose(landscape.gradient(x)[..., k], slope, rtol=1e-6, atol=1e-8)
    assert np.abs(landscape.gradient(landscape.saddle)).max() < 1e-12
    assert landscape.value(landscape.saddle) > landscape.minimum
    assert landscape.value(x).min() >= landscape.minimum - 1e-12
    free = descend(landscape, "no exchange", 0.0, x, 0.05, 4000)
    assert free.rested.all() and landscape.value(free.x).min() == pytest.approx(landscape.minimum, abs=1e-9)


def test_a_saddle_has_a_way_down():
    for landscape in LANDSCAPES.values():
        beside = landscape.saddle + 1e-3 * np.random.default_rng(0).standard_normal((200, len(landscape.saddle)))
        assert landscape.value(beside).min() < landscape.value(landscape.saddle)


class Shared(Problem):
    """The same landscape for every worker."""

    def __init__(self, landscape, start):
        self.landscape, self.start = landscape, start

    def gradient(self, i, x, t):
        return self.landscape.gradient(x)

    def loss(self, i, x, t):
        return float(self.landscape.value(x))


@pytest.mark.parametrize("name", ["tilted", "egg box", "factorisation"])
def test_the_batch_methods_are_the_librarys(name):
    landscape, eta, strength = LANDSCAPES[name], 0.05, 0.7
    start = landscape.starts(np.random.default_rng(1), 2, 4)
    start[:, 0] = start[:, 1:].mean(axis=1)  # then the first worker, where the library puts the centre, is the mean
    for method, algorithm in (("LGD", LGD(4, strength)), ("EASGD", EASGD(4, 4 * eta * strength, 1))):
        path = descend(landscape, method, strength, start, eta, 30, tolerance=0.0)
        for run, own in enumerate(start):
            found, _ = walk(algorithm, Shared(landscape, own), 30, eta)
            np.testing.assert_allclose(path.x[run], found[:4], rtol=0, atol=1e-12)
            if method == "EASGD":
                np.testing.assert_allclose(path.centre[run], found[4], rtol=0, atol=1e-12)


def test_what_was_reached_when_is_counted_in_steps():
    landscape, start = wells(0.0), np.array([[[0.5, 0.0], [0.2, 0.0]]])
    whole = descend(landscape, "no exchange", 0.0, start, 0.05, 4000, 1e-3)
    before, after = (
        descend(landscape, "no exchange", 0.0, start, 0.05, steps, 1e-3).x
        for steps in (int(whole.reached[0]), int(whole.reached[0]) - 1)
    )
    assert landscape.value(before).min() <= 1e-3 < landscape.value(after).min()
    assert np.isinf(descend(landscape, "no exchange", 0.0, start, 0.05, 4000, -1.0).reached).all()


@pytest.mark.parametrize("name", ["equal", "factorisation"])
def test_mirrored_starts_stay_mirrored_to_the_last_bit(name):
    start = LANDSCAPES[name].mirrored(np.random.default_rng(0), 24, 4)
    assert not start.sum(axis=1).any()
    for method, strength in (("no exchange", 0.0), ("EASGD", 0.3), ("EASGD", 1.0)):
        path = descend(LANDSCAPES[name], method, strength, start, 0.05, 500)
        assert not path.x.sum(axis=1).any() and not np.nan_to_num(path.centre).any()


def test_the_script_writes_what_the_statements_read(monkeypatch, tmp_path):
    arguments = ["theory_lsgd", "--preset", "smoke", "--seeds", "0", "1", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    theory_lsgd.main(None)
    record, frames = records.read(tmp_path, "theory_lsgd")
    assert set(frames) == {"lsgd_rest", "lsgd_speed", "lsgd_symmetry", "lsgd_traffic"}
    statements = lsgd_statements(frames)
    assert len({statement.text for statement in statements}) == len(statements) == 22
    assert all(statement.verdict != "not measured" for statement in statements)


def rest(**columns) -> pd.DataFrame:
    row = {"landscape": "a", "method": "LGD", "strength": 1.0, "best_gradient": 1e-9, "mean_gradient": 1e-9,
           "centre_gradient": 1e-9, "off": 0.0, "kept": 0.0}  # fmt: skip
    return pd.DataFrame([row | {"method": method} | columns for method in ("LGD", "EASGD")])


def speed(**columns) -> pd.DataFrame:
    row = {"landscape": "a", "strength": 1.0, "reached": 1.0, "slower": 0.0, "faster": 0.0, "ratio": 1.0}
    return pd.DataFrame([row | {"method": method} | columns for method in ("LGD", "EASGD") for _ in range(3)])


def symmetry(**columns) -> pd.DataFrame:
    row = {"landscape": "a", "strength": 1.0, "disturbed": 0.0} | {
        f"{who}_trapped": 0.0 for who in ("best", "worst", "mean", "centre")
    }
    return pd.DataFrame([row | {"method": method} | columns for method in ("LGD", "EASGD", "no exchange")])


def traffic(models: float, seconds: float) -> pd.DataFrame:
    rows = [("LSGD", models, seconds), ("all-reduce", 1.0, 1.0), ("EASGD, server", 1.0, 1.0)]
    return pd.DataFrame([{"workers": 4, "method": m, "models": a, "seconds": b} for m, a, b in rows])


@pytest.mark.parametrize(
    "name, bad, said",
    [
        ("lsgd_rest", rest(best_gradient=0.1), "the leader rests"),
        ("lsgd_rest", rest(mean_gradient=0.1), "the mean, which"),
        ("lsgd_rest", rest(centre_gradient=0.1), "the centre, which"),
        ("lsgd_rest", rest(off=0.1), "every worker rests"),
        ("lsgd_rest", rest(kept=0.1), "stays one"),
        ("lsgd_speed", speed(reached=0.9), "as low as the best"),
        ("lsgd_speed", speed(ratio=1.5), "come later"),
        ("lsgd_symmetry", symmetry(best_trapped=0.1), "the leader ends"),
        ("lsgd_symmetry", symmetry(centre_trapped=0.1), "the centre ends"),
        ("lsgd_traffic", traffic(1.5, 0.5), "sends fewer models"),
        ("lsgd_traffic", traffic(0.5, 1.5), "takes less modelled time"),
    ],
)
def test_a_verdict_follows_the_numbers(name, bad, said):
    good = {"lsgd_rest": rest(), "lsgd_speed": speed(), "lsgd_symmetry": symmetry(), "lsgd_traffic": traffic(0.5, 0.5)}
    assert {statement.verdict for statement in lsgd_statements(good)} == {"holds"}
    found = {s.text: s.verdict for s in lsgd_statements(good | {name: bad})}
    assert {verdict for text, verdict in found.items() if said in text} == {"fails"}
