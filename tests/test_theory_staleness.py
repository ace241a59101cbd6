"""Staleness and what old leaders do to the mean of the models, against plain arithmetic, and how that is judged."""

import math
import sys
from itertools import product

import numpy as np
import pytest

from aldsgd.theory import records
from aldsgd.theory.staleness import geometric, harmonic, led, most_drag, others_staleness, speed_up
from experiments import theory_staleness
from tables.theory_staleness import staleness_statements


def test_closed_forms_are_consistent():
    n, k = 5, 7
    assert geometric(n, range(1000)).sum() == pytest.approx(1) and geometric(n, [0])[0] == 1 / n
    assert geometric(n, range(1000)) @ np.arange(1000) == pytest.approx(n - 1)
    assert harmonic(1) == 1 and harmonic(4) == pytest.approx(25 / 12)
    # Each step of the server counts once for each worker, so that the mean over all uses is n - 1, whatever the times.
    uses = k * (n - 1)
    assert (k * (n - 1) + uses * others_staleness(n, k)) / (uses + 1) == pytest.approx(n - 1)
    assert others_staleness(n, 1) == n - 1 and speed_up(n, 1) == 1 and speed_up(n, k) == (uses + 1) / n


def test_leaders_of_each_rule_of_age():
    own, losses, degrees, ages = (0.3, 0.1, 0.2, 0.2), (2.0, 1.0, 3.0, math.inf), (1, 2, 2, 9), (0.0, 5.0, 2.0, 1.0)
    assert led(losses, degrees, ages, own, "none", 3.0)[:2] == (1, 1)
    assert led(losses, degrees, ages, own, "bound", 3.0)[:2] == (0, 2)
    assert led([math.inf], [1], [0.0], own, "bound", 3.0)[:2] == (0, 0)
    best, largest, weights = led(losses, degrees, ages, own, "fade", 2.0)
    assert (best, largest) == (1, 1) and sum(weights) == pytest.approx(1)
    assert weights[1] < math.exp(-2) * 0.5 and weights[2] < math.exp(-2) * 0.3


def test_the_most_that_a_rule_lets_leaders_drag():
    own = (0.3, 0.1, 0.2, 0.2)
    ages = np.linspace(0.01, 60, 6000)

    def drag(age, limit):
        """The most over ages, of leaders that are both so old."""
        found = []
        for a in ages:
            best, largest, (_, b, c) = led((2.0, 1.0), (1, 2), (0.0, a), own, age, limit)
            assert best == largest
            found.append((b + c) * (math.ceil(a) - 1) if best else 0.0)
        return max(found)

    assert most_drag(own, "none", 1.0) == math.inf and most_drag(own, "bound", 1.0) == 0
    for limit in (1.0, 2.5, 8.0):
        assert most_drag(own, "bound", limit) == pytest.approx(drag("bound", limit))
        assert 0.5 * most_drag(own, "fade", limit) < drag("fade", limit) <= most_drag(own, "fade", limit)


@pytest.mark.parametrize("clock", [("constant", 3.0, 2.5), ("exponential", 4.0, 0.3)])
def test_an_event_against_a_plain_account_of_who_was_where(clock):
    """From the models at every time alone: what the mean moves by, and the terms of its bound."""
    history: list[tuple[float, int, np.ndarray]] = []

    class Told(theory_staleness.Watched):
        def mix(self, i, sources, weights):
            box = {j: (m.stamp, self.carried(m).numpy().copy()) for j, m in self.box[i].items()}
            super().mix(i, sources, weights)
            told.append((i, self.now, dict(zip(sources, weights, strict=True)), box))

        def move(self, row, direction, since=None):
            super().move(row, direction, since)
            history.append((self.now, row, self.x[row].numpy().copy()))

    told: list = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory_staleness, "Watched", Told)
        events = theory_staleness.observed("53.8", ("fade", 2.0), clock, 0, 12)
    start = np.full(6, 10.0)
    for row, (i, now, weights, box) in zip(events.to_dict("records"), told, strict=True):
        own = [(t, x) for t, j, x in history if j == i and t < now]
        here, moved, bound, drag = own[-1][1] if own else start, np.zeros(6), 0.0, np.zeros(6)
        ways = np.diff([start, *(x for _, x in own)], axis=0)
        since = {j: sum(t > stamp for t, _ in own) for j, (stamp, _) in box.items() if j != i}
        far = max(np.linalg.norm(ways[len(ways) - max(since.values(), default=0) :], axis=1), default=0.0)
        for j, m in since.items():
            stamp, copy = box[j]
            sender = [x for t, k, x in history if k == j and t <= stamp]
            np.testing.assert_array_equal(copy, sender[-1] if sender else start)
            then = here - ways[len(ways) - m :].sum(axis=0)
            moved += weights[j] * (copy - here) / 8
            drag += weights[j] * (here - then) / 8
            bound += weights[j] * (np.linalg.norm(copy - then) + m * far) / 8
        found = [row["moved"], row["drag"], row["bound"]]
        np.testing.assert_allclose(found, [np.linalg.norm(moved), np.linalg.norm(drag), bound], rtol=1e-9, atol=1e-12)
    assert len(told) > 50 and events["unlike"].max() < 1e-15


def test_the_script_and_its_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(theory_staleness, "UNITS", {"smoke": 40})
    monkeypatch.setattr(
        sys, "argv", ["theory_staleness", "--preset", "smoke", "--seeds", "0", "1", "--results", str(tmp_path)]
    )
    theory_staleness.main(None)
    _, frames = records.read(tmp_path, "theory_staleness")

    def verdicts():
        return [s.verdict for s in staleness_statements(frames)]

    before = verdicts()
    exact, bound, rule = 0, 2, 3
    assert before[exact] == before[bound] == before[rule] == "holds"
    forms, drift = frames["staleness_forms"], frames["staleness_drift"]
    forms.loc[forms["what"] == "staleness of the others", "difference"] = 0.1
    drift.loc[drift["age"] == "fade", "ratio"] = 1.01
    drift.loc[drift["age"] == "bound", "excess"] = 1e-3
    after = verdicts()
    assert after[exact] == "holds except under: staleness of the others"
    assert after[bound].startswith("holds except under: fade") and after[rule] == "holds under: fade 3. Fails elsewhere"
    assert set(product(("none", "bound", "fade"), (5.0,))) == set(map(tuple, drift[["age", "slower"]].to_numpy()))
