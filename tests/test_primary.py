"""The eight primary comparisons, computed again with pandas and SciPy alone, and Holm's correction over them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import paper_tables
from aldsgd.listings import write_experiment
from aldsgd.records import RunStore
from aldsgd.statistics import Interval, corrected
from baselines.registry import VARIANTS
from experiments.rates import OWN_RATES
from experiments.scales import TWICE
from figures import primary as figure
from tables.base import Estimate
from tables.claims import judge, render
from tables.measures import Measure
from tables.primary import NO_GAIN, PRIMARY, needed, primary, then_and_now, word
from tables.prose import Numbers
from tests.second import area, last, read, series

ROOT = Path(__file__).parents[1]
MAIN = ("D-PSGD", "MATCHA", "all-reduce", "AL-DSGD on D-PSGD", "AL-DSGD, three graphs", "AL-DSGD on MATCHA")
GOSSIP = {"D-PSGD": "dpsgd", "AL-DSGD on D-PSGD": "aldsgd"}


def config_of(label: str, seed: int, **changes) -> dict:
    base = {"dataset": "cifar10", "model": "resnet_small", "workers": 8, "graph": "paper:53.8", "graphs": 1}
    base |= {"epochs": 4, "interim_images": 2000}
    return {**base, **VARIANTS[label].changes, "lr": 0.1 + len(label) / 100, "seed": seed, **changes}


def write_run(store: RunStore, config: dict, draws, epochs: int) -> None:
    """A made-up run: accuracies that grow, bytes that differ by method and seed."""
    spent = draws.integers(80, 120) * 10**5 * (1 + (config["method"] == "dpsgd"))
    with store.writer(config, {}) as writer:
        for epoch in range(1, epochs + 1):
            worst, mean, averaged = np.sort(draws.uniform(0.4, 0.8, 3) * epoch / epochs)
            writer.append([{
                "epoch": epoch, "step": epoch, "worst_accuracy": worst, "mean_accuracy": mean, "best_accuracy": 0.99,
                "averaged_accuracy": averaged, "consensus_distance": 1.0, "logical_bytes": int(spent * epoch),
                "rounds": 1, "modelled_compute_s": 1.0, "modelled_communication_s": 1.0, "train_loss": 1.0,
            }])  # fmt: skip
        writer.finish()


@pytest.fixture(scope="module")
def made_up(tmp_path_factory) -> Path:
    root, draws = tmp_path_factory.mktemp("mid"), np.random.default_rng(11)
    listed: dict[str, list] = {name: [] for name in ("final_accuracy", "convergence", "communication", "momentum")}
    conditions: dict[str, dict[str, str]] = {name: {} for name in (*listed, "sparsity")}
    cells = []
    for seed in range(5):
        for label in MAIN:
            for name in listed:
                listed[name].append((label, seed, config_of(label, seed, made=name)))
                conditions[name][label] = OWN_RATES
        # The same methods under another condition, which must not be taken for these.
        for label in MAIN:
            listed["final_accuracy"].append((f"{label}, shared", seed, config_of(label, seed, lr=0.7)))
            conditions["final_accuracy"][f"{label}, shared"] = "D-PSGD's rate"
        listed["communication"].append(("MATCHA, twice", seed, config_of("MATCHA", seed, epochs=8)))
        conditions["communication"]["MATCHA, twice"] = TWICE
        for level in ("100", "38.5"):
            for graphs in (1, 3):
                for label in GOSSIP:
                    changes = dict(graph=f"paper:{level}", graphs=graphs, lr=0.1 * graphs)
                    cells.append((f"{label}, {graphs}, {level}", seed, config_of(label, seed, **changes)))
                    conditions["sparsity"][f"{label}, {graphs}, {level}"] = level
    listed["sparsity"] = cells
    # As first made: the same comparisons in one experiment, at other rates.
    conditions["half_rates"] = {label: OWN_RATES for label in MAIN} | conditions["sparsity"]
    half = [(label, seed, config_of(label, seed, made="half")) for seed in range(5) for label in MAIN]
    listed["half_rates"] = half + [(label, seed, config | {"lr": config["lr"] / 2}) for label, seed, config in cells]
    store = RunStore(root)
    for name, runs in listed.items():
        for label, _, config in runs:
            write_run(store, config, draws, 8 if label == "MATCHA, twice" else 4)
        write_experiment(root, name, "mid", runs, conditions[name])
    return root


def by_hand(root: Path) -> dict[str, tuple[float, float, float, float]]:
    """name -> (difference, lower and upper end, p), of what has five seeds in preset mid."""
    found, measured = {}, {name for name, runs in needed(root).items() if runs.preset == "mid"}

    def compare(name: str, ours: pd.Series, theirs: pd.Series) -> None:
        differences = (ours - theirs).dropna()
        if len(differences) == 5:
            test = stats.ttest_1samp(differences, 0.0)
            ends = test.confidence_interval(0.95)
            found[name] = (differences.mean(), ends.low, ends.high, test.pvalue)

    three, one = dict(method="aldsgd", core="dpsgd", graphs=3), dict(method="aldsgd", core="dpsgd", graphs=1)
    plain, matcha = dict(method="dpsgd", graphs=1), dict(method="matcha", graphs=1)
    worst = last("worst_accuracy")
    if "final_accuracy" in measured:
        final = read(root, "final_accuracy").query("condition == 'own rates'")
        averaged = last("averaged_accuracy")
        compare("P1", series(final, averaged, **three), series(final, averaged, **plain))
        compare("P2", series(final, worst, **three), series(final, worst, **plain))
        compare("P3", series(final, worst, **one), series(final, worst, **plain))
        compare("P4", series(final, worst, method="aldsgd", core="matcha"), series(final, worst, **matcha))
    if "sparsity" in measured:
        cells = read(root, "sparsity").query("graphs == 3")
        gain = {
            level: series(cells, worst, graph=f"paper:{level}", method="aldsgd")
            - series(cells, worst, graph=f"paper:{level}", method="dpsgd")
            for level in ("38.5", "100")
        }
        compare("P5", gain["38.5"], gain["100"])
    if "communication" in measured:
        bytes_ = read(root, "communication")
        ours = series(bytes_.query("condition == 'own rates'"), lambda curve: curve, **three)
        theirs = series(bytes_.query("condition == 'twice the epochs'"), lambda curve: curve, **matcha)
        pairs = {seed: [] for seed in {*ours.index} & {*theirs.index}}
        for seed, values in pairs.items():
            # The last test is on other images than those before it.
            curves = ours[seed].iloc[:-1], theirs[seed].iloc[:-1]
            sent = min(curve["logical_bytes"].iloc[-1] for curve in curves)
            for curve in curves:
                after = int((curve["logical_bytes"] >= sent).idxmax())
                low, high = curve.iloc[max(after - 1, 0)], curve.iloc[after]
                share = (sent - low["logical_bytes"]) / max(high["logical_bytes"] - low["logical_bytes"], 1)
                values.append(low["mean_accuracy"] + share * (high["mean_accuracy"] - low["mean_accuracy"]))
        compare("P6", *(pd.Series({seed: pair[k] for seed, pair in pairs.items()}, dtype=float) for k in (0, 1)))
    if "convergence" in measured:
        sooner = read(root, "convergence")
        compare("P7", series(sooner, area, **three), series(sooner, area, **plain))
    if "momentum" in measured:
        modern = read(root, "momentum").query("condition == 'own rates'")
        compare("P8", series(modern, worst, **three), series(modern, worst, **plain))
    return found


def agree(root: Path) -> set[str]:
    """Both computations give the same; the names of what was compared."""
    expected, source = by_hand(root), needed(root)
    differences = {one.name: one.difference(source) for one in PRIMARY}
    adjusted = corrected(differences, len(PRIMARY))
    assert set(adjusted) == set(expected)
    order = sorted(expected, key=lambda name: expected[name][3])
    for place, name in enumerate(order):
        own = max(min(1.0, (8 - k) * expected[earlier][3]) for k, earlier in enumerate(order[: place + 1]))
        assert adjusted[name] == pytest.approx(own, rel=1e-9)
    for name, (mean, low, high, _) in expected.items():
        interval = differences[name]
        assert (interval.mean, interval.low, interval.high) == pytest.approx((mean, low, high), rel=1e-9)
        assert interval.n == 5
    return set(expected)


def test_a_second_computation_gives_the_same(made_up):
    assert len(agree(made_up)) == len(PRIMARY)


def test_a_second_computation_of_the_committed_runs_gives_the_same():
    assert agree(ROOT / "results") == {one.name for one in PRIMARY}


def test_the_comparison_under_momentum_is_told_as_it_is_and_as_it_was_first_made():
    root, expected = ROOT / "results", by_hand(ROOT / "results")
    numbers, mean, low = Numbers(root), *expected["P8"][:2]
    assert numbers.text("gain under momentum") == f"{100 * mean:+.2f} ± {100 * (mean - low):.2f}"
    first = read(root, "momentum").query("condition == 'first grid'")
    worst = {name: series(first, last("worst_accuracy"), method=name) for name in ("aldsgd", "dpsgd")}
    differences = worst["aldsgd"] - worst["dpsgd"]
    p = {name: found[3] for name, found in expected.items()}
    p["P8"] = stats.ttest_1samp(differences, 0.0).pvalue
    order = sorted(p, key=p.get)
    adjusted = max((8 - k) * p[name] for k, name in enumerate(order[: order.index("P8") + 1]))
    assert numbers.text("gain under momentum, first grid").startswith(f"{100 * differences.mean():+.2f} ± ")
    assert numbers.text("Holm's p under momentum, first grid") == f"{adjusted:.3f}"


def test_the_curves_at_one_rate_are_compared_as_by_hand():
    shared = read(ROOT / "results", "final_accuracy").query('condition == "D-PSGD\'s rate"')
    ours, plain = dict(method="aldsgd", core="dpsgd", graphs=3), dict(method="dpsgd", graphs=1)
    differences = 100 * (series(shared, area, **ours) - series(shared, area, **plain))
    assert len(differences) == 5
    half = stats.t.ppf(0.975, 4) * differences.std() / 5**0.5
    text = Numbers(ROOT / "results").text("C7: AL-DSGD, three graphs, less D-PSGD, all at D-PSGD's rate")
    assert text == f"{differences.mean():+.2f} ± {half:.2f} points"


def test_the_table_and_the_list_of_claims_show_them(made_up, tmp_path):
    table = primary(made_up)
    assert [row[0].split()[0] for row in table.text[1:]] == [one.name for one in PRIMARY]
    assert all(isinstance(cell, Estimate) for cell in table.rows["difference (points)"])
    assert paper_tables.render("primary", made_up).count("\n| P") == 8
    text = render(made_up)
    assert text.count("\n| P") == 8 and "named before the runs" in text
    assert "at mid scale" in text and "each at its own best rate" in text
    assert [path.name for path in figure.draw(made_up, tmp_path)] == ["primary.pdf", "primary.png"]


def test_the_comparisons_as_first_made_stand_beside_those_of_now(made_up):
    rows, primary_rows = then_and_now(made_up).rows, primary(made_up).rows
    assert [text.split(":")[0] for text in rows["comparison"]] == ["P1", "P2", "P3", "P4", "P5", "P7"]
    kept = primary_rows[~primary_rows["comparison"].str.match("P6|P8")]
    for ours, theirs in (("as they stand", "difference (points)"), ("verdict", "verdict")):
        assert rows[ours].map(str).tolist() == kept[theirs].map(str).tolist()
    half, worst = read(made_up, "half_rates"), last("worst_accuracy")
    main = half.query("condition == 'own rates'")
    three, plain = dict(method="aldsgd", core="dpsgd", graphs=3), dict(method="dpsgd", graphs=1)
    p2 = series(main, worst, **three) - series(main, worst, **plain)
    cells = [half.query(f"condition == '{level}' and graphs == 3") for level in ("38.5", "100")]
    gains = [series(each, worst, method="aldsgd") - series(each, worst, method="dpsgd") for each in cells]
    then = dict(zip((text[:2] for text in rows["comparison"]), rows["at rates of half the epochs"], strict=True))
    assert then["P2"].value.mean == pytest.approx(100 * p2.mean())
    assert then["P5"].value.mean == pytest.approx(100 * (gains[0] - gains[1]).mean())


def test_what_is_not_measured_counts_in_the_correction(tmp_path):
    draws, store = np.random.default_rng(2), RunStore(tmp_path)
    runs = [(label, seed, config_of(label, seed)) for seed in range(5) for label in ("D-PSGD", "AL-DSGD, three graphs")]
    for _, _, config in runs:
        write_run(store, config, draws, 2)
    write_experiment(tmp_path, "momentum", "mid", runs, dict.fromkeys(("D-PSGD", "AL-DSGD, three graphs"), OWN_RATES))
    source = needed(tmp_path)
    differences = {one.name: one.difference(source) for one in PRIMARY}
    adjusted = corrected(differences, len(PRIMARY))
    assert list(adjusted) == ["P8"]
    plain, ours = (read(tmp_path, "momentum").query(f"method == '{m}'") for m in ("dpsgd", "aldsgd"))
    p = stats.ttest_rel(series(ours, last("worst_accuracy")), series(plain, last("worst_accuracy"))).pvalue
    assert adjusted["P8"] == pytest.approx(min(1.0, 8 * p))
    assert word(PRIMARY[0], None, None, None) == "not measured"


def test_a_ceiling_of_few_seeds_decides_nothing():
    """Below the claim it says "could not have been seen" only with as many seeds as a difference needs."""
    [claim] = [one for one in PRIMARY if one.name == "P2"]
    none, low = Interval(0.0, 0.01, 5), Interval(0.03, 0.01, 5)
    assert low.high < claim.claimed
    assert word(claim, none, 0.9, low) == "no difference shown; the claim could not have been seen"
    assert word(claim, none, 0.9, Interval(0.03, 0.01, 4)) == "no difference shown"
    assert word(claim, none, 0.9, Interval(0.05, 0.01, 5)) == "no difference shown"


def test_a_smaller_loss_is_no_gain(made_up):
    """Where what is compared are gains, ours must be one itself."""
    larger, none, some = Interval(0.03, 0.01, 5), Interval(0.01, 0.02, 5), Interval(0.03, 0.02, 5)
    of_gains = [one for one in PRIMARY if one.of_gains]
    assert [one.name for one in of_gains] == ["P5"]
    assert word(*of_gains, larger, 0.01, None, none) == NO_GAIN
    assert word(*of_gains, larger, 0.01, None, some) == word(PRIMARY[2], larger, 0.01, None) == "better"
    source = needed(made_up)
    ours, _ = of_gains[0].pair(source)
    assert of_gains[0].gain(source).mean == pytest.approx(np.mean(list(ours.values())))
    for gain, said in ((none, "at mid scale: better, but no gain shown"), (some, "at mid scale: better")):
        assert judge(Measure("", larger, None, gain=gain), larger, "mid") == said
    assert judge(Measure("", larger, None, gain=none), larger, "paper") == "does not hold"


def test_runs_of_another_preset_do_not_count(made_up):
    listing = made_up / "experiments" / "momentum.json"
    text = listing.read_text()
    listing.write_text(text.replace('"mid"', '"cpu"'))
    try:
        assert primary(made_up).rows["seeds"].map(str).tolist() == ["5"] * 7 + ["0"]
    finally:
        listing.write_text(text)
