"""What is measured about the claims, computed again with pandas and SciPy alone from the committed runs."""

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from tables.claims import needed
from tables.measures import bytes_to_target, sparse_gain
from tables.primary import ON_MATCHA, ONE, THREE
from tests.second import last, read, series

RESULTS = Path(__file__).parents[1] / "results"


def ends(values: pd.Series) -> tuple[float, float]:
    """Mean and half-width of the 95 % interval."""
    assert len(values) == 5 and values.notna().all()
    return values.mean(), stats.t.ppf(0.975, 4) * values.std() / 5**0.5


def test_bytes_to_the_target_as_by_hand():
    """The target and what shall reach it are of the same images: all tests but the last."""
    runs = read(RESULTS, "communication").query("condition == 'own rates' and graph == 'paper:53.8'")
    assert (runs["interim_images"] < 10_000).all()
    plain = dict(method="dpsgd", graphs=1)
    during = series(runs, lambda curve: curve.iloc[:-1], **plain)
    target = 0.95 * during.map(last("mean_accuracy")).mean()

    def spent(**method) -> pd.Series:
        curves = series(runs, lambda curve: curve.iloc[:-1], **method)
        return curves.map(lambda curve: curve.loc[curve["mean_accuracy"] >= target, "logical_bytes"].min())

    shown = {measure.what: measure for measure in bytes_to_target(needed(RESULTS))}
    assert {THREE, ONE, ON_MATCHA} <= set(shown)
    for name, core, graphs in ((THREE, "dpsgd", 3), (ONE, "dpsgd", 1), (ON_MATCHA, "matcha", 1)):
        ours = spent(method="aldsgd", core=core, graphs=graphs)
        if missed := int(ours.isna().sum()):
            assert shown[name].real is None and shown[name].shown == f"target not reached by {missed} of 5 seeds"
        else:
            saving = shown[name].real
            assert (saving.mean, saving.half_width) == pytest.approx(ends(ours / spent(**plain) - 1))


def test_gains_of_leaders_on_sparse_and_dense_graphs_as_by_hand():
    cells, worst = read(RESULTS, "sparsity").query("graphs == 3"), last("worst_accuracy")
    gains = {
        level: series(cells, worst, graph=f"paper:{level}", method="aldsgd")
        - series(cells, worst, graph=f"paper:{level}", method="dpsgd")
        for level in ("38.5", "100")
    }
    difference, *each = sparse_gain(needed(RESULTS))
    assert (difference.real.mean, difference.real.half_width) == pytest.approx(ends(gains["38.5"] - gains["100"]))
    assert difference.gain.mean == pytest.approx(gains["38.5"].mean())
    shown = {measure.what: measure.real for measure in each}
    for level, own in gains.items():
        assert (shown[f"gain at {level} %"].mean, shown[f"gain at {level} %"].half_width) == pytest.approx(ends(own))
