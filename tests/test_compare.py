"""Recorded runs side by side: what a selection names, values between tests, paired differences by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aldsgd.errors import ConfigError
from aldsgd.records import RunStore
from experiments import compare
from figures import style
from figures.compare import draw_comparison
from tables.comparison import columns_of, common_end, compared, parsed, select, value_at
from tables.links import first_reached, mean_at
from tests.calling import call

BASE = {"dataset": "digits", "workers": 4, "graph": "ring", "graphs": 1, "epochs": 3, "lr": 0.1}


def write(root, method, seeds, metrics=("accuracy",), slope=1.0, more=0.0, extra=None, tested=(1, 2, 3), **changes):
    store, draws = RunStore(root), np.random.default_rng(len(method) * 100 + len(changes))
    for seed in seeds:
        config = {**BASE, "method": method, "seed": seed, **changes}
        with store.writer(config, {}, metrics) as writer:
            for epoch in tested:
                row = {"epoch": epoch, "step": 5 * epoch, "train_loss": 1.0, "rounds": epoch}
                row |= {"logical_bytes": int(1000 * slope * epoch), "modelled_compute_s": epoch}
                row["modelled_communication_s"] = 0.5 * slope * epoch
                for metric in metrics:
                    worst, mean, best = np.sort(draws.uniform(0.1, 0.3, 3)) * epoch + more
                    row |= {f"worst_{metric}": worst, f"mean_{metric}": mean, f"best_{metric}": best,
                            f"averaged_{metric}": mean}  # fmt: skip
                writer.append([row])
            writer.finish(extra)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    write(root, "dpsgd", range(5))
    write(root, "my.module:Mine", range(5), slope=0.5, tau=7)  # a method that the package has never seen
    write(root, "dpsgd", range(2), graph="paper:100")
    return root


def frame(root, **fields):
    rows = []
    for run in RunStore(root).runs():
        if all(run.config.get(name) == value for name, value in fields.items()):
            rows.append(pd.read_csv(run.csv).assign(seed=run.config["seed"]))
    return pd.concat(rows)


@pytest.mark.parametrize("axis", ["epochs", "bytes", "time"])
def test_differences_at_equal_cost_are_those_by_hand(store, axis):
    plain, mine = select(store, "method=dpsgd,graph=ring"), select(store, "method=my.module:Mine")
    cost = {"epochs": lambda f: f["epoch"], "bytes": lambda f: f["logical_bytes"],
            "time": lambda f: f["modelled_compute_s"] + f["modelled_communication_s"]}[axis]  # fmt: skip
    frames = [frame(store, method="dpsgd", graph="ring"), frame(store, method="my.module:Mine")]
    end = min(cost(f).max() for f in frames)
    assert common_end([plain, mine], axis) == end
    values = []
    for f in frames:
        values.append([np.interp(end, cost(own), own["worst_accuracy"]) for _, own in f.groupby("seed")])
    test = stats.ttest_rel(values[1], values[0]).confidence_interval(0.95)
    cell = compared([plain, mine], axis).rows["worst, less D-PSGD's"][1].value
    assert (cell.low, cell.high) == pytest.approx((100 * test.low, 100 * test.high), rel=1e-9)
    assert cell.n == 5


def test_a_value_lies_on_the_line_between_two_tests(store):
    run = select(store, "method=dpsgd,graph=ring").first
    rows = run.network["mean_accuracy"]
    assert value_at(run, "mean_accuracy", "epochs", 2.5) == pytest.approx((rows[1] + rows[2]) / 2)
    assert np.isnan(value_at(run, "mean_accuracy", "epochs", 0.5))


def test_nothing_is_read_between_tests_on_different_samples(tmp_path):
    """The last test is on all samples, those before it on a part."""
    for method, changes in (("dpsgd", {}), ("single", {"test_images": 500}), ("whole", {"test_images": 200})):
        write(tmp_path, method, range(2), interim_images=200, **changes)
    for method in ("dpsgd", "single"):
        run = select(tmp_path, f"method={method}").first
        mean = run.network["mean_accuracy"]
        assert list(run.curve["epoch"]) == [1, 2]
        assert value_at(run, "mean_accuracy", "epochs", 2.5) == mean[1]
        assert value_at(run, "mean_accuracy", "epochs", 3) == mean[2]
        assert mean_at(run, run.network["epoch"].to_numpy(), 2.5) == mean[1]
        assert first_reached(run, max(mean[:2])) is not None and first_reached(run, max(mean[:2]) + 1e-9) is None
    assert len(select(tmp_path, "method=whole").first.curve) == 3  # the part is all
    ends = [select(tmp_path, f"method={method}") for method in ("dpsgd", "single")]
    assert common_end(ends, "epochs") == 3
    write(tmp_path, "late", range(2), slope=0.5)
    assert common_end([ends[0], select(tmp_path, "method=late")], "bytes") == 1500
    assert common_end([ends[0], select(tmp_path, "method=whole")], "bytes") == 3000


def test_no_curve_joins_tests_on_different_samples(tmp_path, monkeypatch):
    for method, changes in (("dpsgd", {"interim_images": 200}), ("single", {})):
        write(tmp_path, method, range(2), **changes)
    selections, figures = [select(tmp_path, f"method={method}") for method in ("dpsgd", "single")], []
    monkeypatch.setattr(style, "save", lambda fig, _: figures.append(fig))
    draw_comparison(selections, tmp_path)
    draw_comparison(selections[1:], tmp_path)
    for axes, column in zip(figures[0].axes, ("worst", "mean", "averaged"), strict=True):
        for selection, tested in zip(selections, ([1, 2], [1, 2, 3]), strict=True):
            (line,) = [line for line in axes.lines if line.get_color() == style.look(selection.name).color]
            rows = np.array([run.network[f"{column}_accuracy"] for run in selection.runs.values()])
            assert list(line.get_xdata()) == tested
            assert line.get_ydata() == pytest.approx(100 * rows.mean(axis=0)[: len(tested)])
    told, untold = (fig.legends[0].get_title().get_text() for fig in figures)
    assert told == "curves: tests on 200 images; the last, on all, is left out" and not untold


def test_a_single_test_is_its_own_curve(tmp_path):
    """Of runs that took a part of the images before the last test, but had no test before it."""
    for method, epochs in (("dpsgd", 1), ("single", 3)):
        write(tmp_path, method, range(2), interim_images=200, epochs=epochs, tested=range(1, epochs + 1))
    once, often = (select(tmp_path, f"method={method}") for method in ("dpsgd", "single"))
    assert list(once.first.curve["epoch"]) == [1] and list(often.first.curve["epoch"]) == [1, 2]
    assert common_end([once, often], "epochs") == 1
    assert len(draw_comparison([once, often], tmp_path)) == 2


def test_what_a_selection_names(store, tmp_path):
    by_fields = select(store, "method=dpsgd,graph=ring")
    assert list(by_fields.runs) == [0, 1, 2, 3, 4] and by_fields.name == "D-PSGD"
    by_key = select(store, by_fields.runs[3].key)
    assert {seed: run.key for seed, run in by_key.runs.items()} == {s: r.key for s, r in by_fields.runs.items()}
    named = select(tmp_path, f"plain@{store}:method=dpsgd,graph=paper:100")
    assert named.name == "plain" and list(named.runs) == [0, 1]
    write(tmp_path / "alone", "dpsgd", range(2))
    assert len(select(store, str(tmp_path / "alone")).runs) == 2
    assert parsed("lr=[0.1, 0.2],augment=true,core=none,graph=paper:53.8") == {
        "lr": [0.1, 0.2], "augment": True, "core": None, "graph": "paper:53.8",
    }  # fmt: skip


def test_a_difference_over_fewer_seeds_says_so(store):
    ring, sparse = select(store, "method=dpsgd,graph=ring"), select(store, "fewer@method=dpsgd,graph=paper:100")
    mine = select(store, "method=my.module:Mine")
    head, _, fewer, whole = compared([ring, sparse, mine]).text
    place = head.index("worst, less D-PSGD's")
    assert fewer[place].endswith("(n = 2)") and "(n = " not in whole[place]
    head, _, only = compared([sparse, sparse]).text
    assert "(n = " not in only[head.index("worst, less fewer (1)'s")]


@pytest.mark.parametrize(("changes", "name"), [
    ({"core": "dpsgd", "graphs": 3, "judge": "second"}, "AL-DSGD, three graphs, second draw"),
    ({"core": "dpsgd", "graphs": 3, "judge": "receiver", "timing": "rate"},
     "AL-DSGD, receiver judges, fading, three graphs"),
    ({"core": "matcha", "graphs": 3, "judge": "second"}, "AL-DSGD on MATCHA, three graphs, second draw"),
    ({"core": "matcha", "judge": "second"}, "AL-DSGD on MATCHA, second draw"),
    ({"core": "qg", "timing": "late"}, "AL-DSGD on QG-DSGDm, late"),
    ({"method": "dpsgd", "graphs": 3, "weights": "metropolis"}, "D-PSGD, three graphs, Metropolis"),
])  # fmt: skip
def test_a_name_drops_no_difference(tmp_path, changes, name):
    write(tmp_path, **{"method": "aldsgd", "seeds": [0], **changes})
    assert select(tmp_path, "graph=ring").name == name


def test_any_metric_can_be_compared(tmp_path):
    said = {"more_is_better": {"r2": True, "rmse": False}}
    for method, more in (("dpsgd", 0.0), ("single", 9.0)):
        write(tmp_path, method, range(5), metrics=("r2", "rmse"), more=more, extra=said)
    selections = [select(tmp_path, f"method={method}") for method in ("dpsgd", "single")]
    assert columns_of(selections, None)[0] == "worst_r2"
    for metric, word in (("r2", "better"), ("rmse", "worse")):
        head, *rows = compared(selections, metric=metric).text
        assert rows[1][head.index("worst, less D-PSGD's")].endswith(word)
    with pytest.raises(ConfigError, match="not every run has the metric 'accuracy'; all have: r2, rmse"):
        compared(selections, metric="accuracy")


def test_a_run_says_which_way_its_metric_points_even_where_workers_are_alike(tmp_path):
    """Runs of before tasks said so are told by their worst and their best worker."""
    for method, extra in (("dpsgd", {"more_is_better": {"rmse": False}}), ("single", None)):
        write(tmp_path, method, [0], metrics=("rmse",), extra=extra)
    recorded, older = (select(tmp_path, f"method={method}").first for method in ("dpsgd", "single"))
    assert recorded.final["worst_rmse"] < recorded.final["best_rmse"]
    assert not recorded.higher_is_better("rmse") and older.higher_is_better("rmse")


def test_a_run_that_ends_in_nan_shows_no_earlier_value(tmp_path):
    write(tmp_path, "dpsgd", [0])
    run = select(tmp_path, "method=dpsgd").first
    cells = run._cells[1]
    cells[-1, run._cells[0].index("mean_accuracy")] = np.nan
    assert np.isnan(value_at(run, "mean_accuracy", "epochs", 3))


def test_the_command_prints_a_table_and_draws(store, tmp_path):
    ended = call(compare, "method=dpsgd,graph=ring", "mine@method=my.module:Mine", "--results", store, "--at", "bytes",
                 "--out", tmp_path)  # fmt: skip
    assert ended.code == 0 and "worst, less D-PSGD's" in ended.out and "| mine" in ended.out
    assert {path.name for path in tmp_path.iterdir()} == {"compare.pdf", "compare.png"}
    again = call(compare, "method=dpsgd,graph=ring", "method=dpsgd,graph=ring", "--results", store, "--format", "csv")
    assert "D-PSGD (1)" in again.out and "D-PSGD (2)" in again.out


def test_a_name_with_dollars_is_no_formula(store, tmp_path):
    for width in ("7", "3.5"):
        ended = call(compare, "$x^{2$@method=dpsgd,graph=ring", "$a$_@method=my.module:Mine", "--results", store,
                     "--out", tmp_path, "--width", width)  # fmt: skip
        assert ended.code == 0 and "less $x^{2$'s" in ended.out and ended.err == ""
    with style.sheet():
        fig = style.empty(2)
        style.legend(fig, ["$x^{2$"])
        (shown,) = fig.legends[0].get_texts()
        assert shown._preprocess_math(shown.get_text()) == ("$x^{2$", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=dpsgd"], "fits runs that differ in graph; add fields, such as graph="),
        (["method=nothing"], "no complete run in"),
        (["0123456789ab"], "no complete run in"),
        (["what is this"], "is no field=value"),
        (["method=dpsgd,graph=ring", "--metric", "bleu"], "not every run has the metric 'bleu'"),
        (["method=dpsgd,graph=ring", "--at", "cost"], "invalid choice"),
        ([], "the following arguments are required"),
    ],
)
def test_bad_selections_are_one_line(store, arguments, message):
    ended = call(compare, *arguments, "--results", store)
    assert ended.refused and message in ended.err and not ended.out
