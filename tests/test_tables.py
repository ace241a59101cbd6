"""Tables and figures from made-up runs: values by hand, one-line errors, the same bytes every time."""

import errno
import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import paper_tables
from aldsgd.listings import write_experiment
from aldsgd.records import RunStore
from aldsgd.statistics import Interval, verdict
from baselines.registry import VARIANTS
from figures import all as all_figures
from figures import quickstart
from tables.base import markdown, number, plus_minus, table
from tables.query import Experiment

ROOT = Path(paper_tables.__file__).resolve().parent
DATASET = "digits"
T4 = 2.7764451051977987  # the 97.5 % point of Student's t with 4 degrees of freedom
# label: (final accuracy, worst worker below it by, MB an epoch, consensus distance)
METHODS = {
    "no exchange": (0.86, 0.05, 0.0, 40.0),
    "D-PSGD (released schedule)": (0.90, 0.04, 2.3, 6.0),
    "D-PSGD": (0.94, 0.02, 6.4, 3e-2),
    "MATCHA": (0.93, 0.03, 3.2, 9e-2),
    "all-reduce": (0.95, 0.0, 6.5, 0.0),
    "AL-DSGD on D-PSGD": (0.945, 0.01, 6.4, 2e-2),
    "AL-DSGD on MATCHA": (0.94, 0.02, 3.2, 5e-2),
    "AL-DSGD, three graphs": (0.95, 0.01, 6.4, 2.5e-2),
}


def configuration(label, seed):
    return {"dataset": DATASET, "model": "mlp", "workers": 8, "graph": "paper:53.8", "epochs": 30,
            "graphs": 1, **VARIANTS[label].changes, "seed": seed}  # fmt: skip


def record(root, label, seed, epochs, metrics=("accuracy",), **changes):
    """Record one run from the values of its network rows; returns its entry in the experiment's list."""
    config = configuration(label, seed) | changes
    with RunStore(root).writer(config, {}, metrics) as writer:
        for place, row in enumerate(epochs, 1):
            epoch = row.get("epoch", place)
            workers = [{"epoch": epoch, "step": 9 * epoch, "worker": i, "test_loss": 0.5} for i in range(2)]
            writer.append([*workers, {"epoch": epoch, "step": 9 * epoch, **row}])
        writer.finish()
    return label, seed, config


def network_row(worst, mean, averaged, consensus, megabytes, compute=1.0, communication=0.5):
    return {"worst_accuracy": worst, "mean_accuracy": mean, "best_accuracy": 0.99,
            "averaged_accuracy": averaged, "consensus_distance": consensus,
            "logical_bytes": round(1e6 * megabytes), "rounds": 1,
            "modelled_compute_s": compute, "modelled_communication_s": communication}  # fmt: skip


def learning_curves(root, seeds=5, epochs=30):
    """A whole made-up quickstart: saturating curves whose noise shrinks, all methods, several seeds."""
    entries = []
    for place, (label, (final, spread, megabytes, consensus)) in enumerate(METHODS.items()):
        for seed in range(seeds):
            random = np.random.default_rng([place, seed])
            rows = []
            for epoch in range(1, epochs + 1):
                mean = final - 0.75 * math.exp(-epoch / 4) + random.normal(0, 0.004 + 0.02 / epoch)
                worst = mean - spread * (1 + 2 / epoch) - abs(random.normal(0, 0.004))
                distance = consensus * math.exp(-epoch / 15) * random.lognormal(0, 0.2)
                rows.append(network_row(worst, mean, mean, distance, megabytes * epoch, 0.1 * epoch, 0.01 * epoch))
            entries.append(record(root, label, seed, rows))
    write_experiment(root, "quickstart", "cpu", entries)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    learning_curves(root)
    return root


@pytest.fixture
def small(tmp_path):
    """Five seeds of three methods with values worked out by hand; the first epoch must not count."""
    entries = []
    for seed in range(5):
        early = network_row(0.1, 0.1, 0.1, 99.0, 1, 0.5, 0.1)
        for label, worst, averaged, consensus, megabytes in (
            ("D-PSGD", 0.50 + 0.01 * seed, 0.90, 0.02 * (seed + 1), 1234.5),
            (
                "AL-DSGD on D-PSGD",
                0.55 + 0.01 * seed + 0.001 * (seed % 2),
                0.90 + 0.01 * (-1) ** seed,
                2e-5,
                1236,
            ),
            ("all-reduce", 0.45 + 0.01 * seed, 0.90, 0.0, 12.34 + seed),
        ):
            last = network_row(worst, 0.75, averaged, consensus, megabytes, 10.0, 2.345)
            entries.append(record(tmp_path, label, seed, [early, last]))
    write_experiment(tmp_path, "quickstart", "cpu", entries)
    return tmp_path


def quickstart_table(root):
    """The table as it is printed."""
    table = paper_tables.table("quickstart", root)
    return table._replace(rows=table.rows.map(str))


def test_values_by_hand(small):
    rows = quickstart_table(small).rows.set_index("method")
    assert rows.index.tolist() == ["D-PSGD", "AL-DSGD on D-PSGD", "all-reduce"]
    reference, ours, exact = (rows.loc[label].tolist() for label in rows.index)
    # 50 .. 54: mean 52, standard deviation sqrt(2.5), over sqrt(5)
    half = f"{T4 * math.sqrt(2.5 / 5):.2f}"
    assert half == "1.96"
    assert reference == [
        "5",
        f"52.00 ± {half}",
        "75.00 ± 0.00",
        "90.00 ± 0.00",
        "",
        "",
        "0.06",
        "1234",
        "12.3",
    ]
    # worst 5, 5.1, 5, 5.1, 5: mean 5.04, variance 0.012 / 4; averaged 1, -1, 1, -1, 1: mean 0.2, variance 1.2
    assert ours[0] == "5" and ours[4] == f"+5.04 ± {T4 * math.sqrt(0.003 / 5):.2f} better" == "+5.04 ± 0.07 better"
    assert ours[5] == f"+0.20 ± {T4 * math.sqrt(1.2 / 5):.2f}" == "+0.20 ± 1.36"
    assert ours[6:] == ["2e-05", "1236", "12.3"]
    assert exact[4] == "-5.00 ± 0.00 worse" and exact[6:] == ["0", "14.3", "12.3"]


def test_caption_says_what_was_run(small):
    caption = quickstart_table(small).caption
    assert "preset cpu, digits, model mlp, 8 workers, graph paper:53.8, 30 epochs, 5 seeds (0, 1, 2, 3, 4)" in caption
    assert "scaled down" in caption and "\n" not in caption


@pytest.mark.parametrize(("preset", "words"), [("smoke", "no conclusion"), ("paper", "a small stand-in"),
                                               ("mine", "not the paper's setting")])  # fmt: skip
def test_caption_of_other_presets(tmp_path, preset, words):
    entry = record(tmp_path, "D-PSGD", 3, [network_row(0.5, 0.6, 0.7, 1.0, 1)])
    write_experiment(tmp_path, "quickstart", preset, [entry])
    caption = quickstart_table(tmp_path).caption
    assert f"preset {preset}," in caption and words in caption and "1 seed (3)." in caption
    assert "scaled down" not in caption


def test_only_the_paper_preset_on_its_data_is_called_the_papers(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "DATASET", "cifar10")
    entry = record(tmp_path, "D-PSGD", 3, [network_row(0.5, 0.6, 0.7, 1.0, 1)])
    write_experiment(tmp_path, "quickstart", "paper", [entry])
    assert "cifar10, " in (caption := quickstart_table(tmp_path).caption)
    assert "uses the paper's setting." in caption and "stand-in" not in caption


def test_few_seeds_and_missing_pairs(tmp_path):
    entries = [record(tmp_path, "D-PSGD", seed, [network_row(0.5, 0.6, 0.7, 1.0, 1)]) for seed in range(4)]
    entries += [record(tmp_path, "MATCHA", seed, [network_row(0.6, 0.6, 0.8, 1.0, 1)]) for seed in range(4)]
    entries += [record(tmp_path, "all-reduce", 0, [network_row(0.6, 0.6, 0.8, math.nan, 1)])]
    entries += [record(tmp_path, "no exchange", 9, [network_row(0.6, 0.6, 0.8, 1.0, 1)])]
    write_experiment(tmp_path, "quickstart", "cpu", entries)
    rows = quickstart_table(tmp_path).rows.set_index("method")
    worst = "worst, less D-PSGD's"
    assert rows.loc["MATCHA", worst] == "+10.00 ± 0.00"  # four seeds: never a verdict
    # A difference over fewer seeds than the table has elsewhere says so.
    assert rows.loc["all-reduce", worst] == "+10.00 (n = 1)" and rows.loc["all-reduce", "worst worker (%)"] == "60.00"
    assert rows.loc["no exchange", worst] == ""  # shares no seed with the reference
    assert rows.loc["all-reduce", "consensus distance"] == "nan"


def test_a_diverged_run_is_not_left_out(tmp_path):
    entries = [record(tmp_path, "D-PSGD", seed, [network_row(0.5, 0.6, 0.7, 1.0, 1)]) for seed in range(4)]
    entries += [record(tmp_path, "D-PSGD", 4, [network_row(0.1, 0.1, 0.1, math.nan, 1)])]
    write_experiment(tmp_path, "quickstart", "cpu", entries)
    rows = quickstart_table(tmp_path).rows
    assert rows["consensus distance"].item() == "nan" and rows["worst worker (%)"].item().startswith("42.00 ")


def test_without_the_reference_there_is_no_difference(tmp_path):
    entries = [record(tmp_path, "MATCHA", seed, [network_row(0.5, 0.6, 0.7, 1.0, 1)]) for seed in range(2)]
    write_experiment(tmp_path, "quickstart", "cpu", entries)
    assert quickstart_table(tmp_path).rows["worst, less D-PSGD's"].item() == ""


def test_a_verdict_needs_the_statistics(store):
    table = quickstart_table(store).rows
    for label, cell in table.set_index("method")["worst, less D-PSGD's"].items():
        if label == "D-PSGD":
            continue
        mean, half = (float(part) for part in cell.split(" ")[0:3:2])
        expected = "better" if mean - half > 0 else "worse" if mean + half < 0 else None
        assert cell.split(" ")[3:] == ([expected] if expected else [])


def test_markdown(small):
    text = paper_tables.render("quickstart", small, "markdown")
    caption, blank, head, rule, *body = text.split("\n")
    assert blank == "" and caption.startswith("quickstart: preset cpu")
    assert len({len(line) for line in (head, rule, *body)}) == 1 and len(body) == 3
    assert re.fullmatch(r"\| -+ \|( -+: \|){9}", rule)
    assert [cell.strip() for cell in body[0].split("|")[1:-1]] == quickstart_table(small).rows.iloc[0].tolist()


def test_a_bar_in_a_cell_ends_none():
    assert markdown([["method", "x"], ["a|b", "1"]]) == ["| method | x |", "| --- | --- |", r"| a\|b | 1 |"]
    found = table("caption", [{"method": "a|b", "x": "1"}])
    assert r"| a\|b " in paper_tables.to_markdown(found)


def test_csv_holds_numbers(small):
    text = paper_tables.render("quickstart", small, "csv")
    assert text.startswith("# quickstart")
    read = pd.read_csv(io.StringIO(text), comment="#").set_index("method")
    assert [name for name in read if read[name].dtype == object] == []
    ours = read.loc["AL-DSGD on D-PSGD"]
    half = T4 * math.sqrt(0.003 / 5)
    parts = [ours[f"worst, less D-PSGD's, {part}"] for part in ("mean", "low", "high", "n")]
    assert parts == pytest.approx([5.04, 5.04 - half, 5.04 + half, 5], rel=1e-9)
    assert read.loc["D-PSGD", "worst worker (%), mean"] == pytest.approx(52)
    assert ours["seeds"] == 5 and ours["consensus distance, mean"] == 2e-5
    assert math.isnan(read.loc["D-PSGD", "worst, less D-PSGD's, n"])  # not compared with itself
    assert ",,,," in text.splitlines()[2]


def test_csv_tells_blank_from_diverged(tmp_path):
    entries = [record(tmp_path, "MATCHA", 0, [network_row(math.nan, 0.6, 0.7, 1.0, 1)])]
    write_experiment(tmp_path, "quickstart", "cpu", entries)
    row = paper_tables.render("quickstart", tmp_path, "csv").splitlines()[2].split(",")
    assert row[:10] == ["MATCHA", "1", "nan", "nan", "nan", "1", "60.0", "nan", "nan", "1"]
    assert row[14:22] == [""] * 8  # no reference to compare with


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_metrics_that_are_no_accuracy_are_plain_numbers(tmp_path, better):
    entries = []
    for seed in range(5):
        for label, mean in (("D-PSGD", 1.5), ("MATCHA", 2.5)):
            worst, best = (mean - 1, mean + 1) if better == "higher" else (mean + 1, mean - 1)
            row = {"worst_score": worst + 0.01 * seed, "mean_score": mean, "best_score": best, "averaged_score": mean,
                   "mean_other": 0.1, "consensus_distance": 1.0, "logical_bytes": 10**6, "modelled_compute_s": 1.0,
                   "modelled_communication_s": 1.0}  # fmt: skip
            entries.append(record(tmp_path, label, seed, [row], ("score", "other")))
    write_experiment(tmp_path, "mine", "cpu", entries)
    table = paper_tables.table("mine", tmp_path)
    rows = table.rows.map(str).set_index("method")
    assert "Test score at the last epoch" in table.caption and "percent" not in table.caption
    assert rows.loc["D-PSGD", "mean worker (score)"] == "1.5 ± 0"
    word = "better" if better == "higher" else "worse"
    assert rows.loc["MATCHA", "worst, less D-PSGD's"] == f"+1 ± 0 {word}"
    assert {path.name for path in all_figures.draw(tmp_path, tmp_path / "out")} == {"mine.pdf", "mine.png"}


def test_the_counterpart_is_found_by_fields(tmp_path):
    """On the same graph, with as many graphs where there are such runs, whatever the labels say."""
    cells = {
        ("a", "all-reduce"): {"graph": None, "disconnected": False},
        ("b", "D-PSGD"): {"graph": "ring", "disconnected": True, "graph_content": "edges"},
        ("c", "D-PSGD"): {"graph": "star"},
        ("d", "D-PSGD"): {"graph": "star", "graphs": 2},
        ("e", "AL-DSGD on D-PSGD"): {"graph": "star", "graphs": 2, "c1": 0.5},
        ("f", "AL-DSGD, three graphs"): {"graph": "star"},
        ("g", "AL-DSGD on D-PSGD"): {"graph": "ring", "lr": 0.5, "graph_content": "edges"},
    }
    row = network_row(0.5, 0.6, 0.7, 1.0, 1)
    entries = [(name, *record(tmp_path, label, 0, [row], **changes)[1:]) for (name, label), changes in cells.items()]
    write_experiment(tmp_path, "mine", "cpu", entries)
    runs = Experiment(tmp_path, "mine")
    found = {label: runs.counterpart(label, "D-PSGD").labels for label in runs.labels}
    assert found == {"a": ["b"], "b": ["b"], "c": ["c"], "d": ["d"], "e": ["d"], "f": ["c"], "g": []}
    assert runs.counterpart("e", "D-PSGD", graphs=1).labels == ["c"]
    assert runs.cores == {"AL-DSGD on D-PSGD": "D-PSGD"} and runs.select(graph="star", graphs=2).labels == ["d", "e"]
    frame = runs.frame.set_index("label")
    assert frame.loc["e", ["graphs", "c1", "worst", "family"]].tolist() == [2, 0.5, 0.5, "AL-DSGD on D-PSGD"]


def test_latex(small):
    text = paper_tables.render("all", small, "latex")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert body.count(r" \\") == 3 and body.count("&") == 27
    assert r"worst worker (\%)" in text and r"$-$5.00 $\pm$ 0.00 worse" in body and "±" not in text
    assert not re.search(r"(?<!\\)[%_#]", text) and text.isascii()
    for environment in ("table*", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1


def test_latex_prints_every_character():
    assert paper_tables.latex(r"a\b^2 {~} <|> #$%&_" + '"') == (
        r"a\textbackslash{}b\textasciicircum{}2 \{\textasciitilde{}\} \textless{}\textbar{}\textgreater{} "
        r"\#\$\%\&\_\textquotedbl{}"
    )
    assert paper_tables.latex("`--c1 -1` is 2e-05 ± 3") == r"`-{}-c1 $-$1` is 2e-05 $\pm$ 3"
    assert paper_tables.latex("[0] of [1]") == "{[}0] of {[}1]"
    assert paper_tables.latex("||X - JX||²/n, 10⁶, m²") == r"$\|X-JX\|^2/n$, $10^6$, m$^2$"
    refused = paper_tables.render("refused", ROOT / "results", "latex")
    assert r"below 2\textasciicircum{}32" in refused and not re.search(r"\^|--|(?<!\\)[%#_~<>|]", refused)


def test_number():
    values = [0.0, 3e-5, 0.01234, 12.345, 99.96, 1234.5, 2.5e7, math.nan, math.inf]
    texts = ["0", "3e-05", "0.0123", "12.3", "100", "1234", "2.5e+07", "nan", "inf"]
    assert list(map(number, values)) == texts


def test_all_prints_every_experiment_that_was_run(small):
    assert paper_tables.render("all", small) == paper_tables.render("quickstart", small)
    entries = [record(small, "D-PSGD", 7, [network_row(0.5, 0.6, 0.7, 1.0, 1)])]
    write_experiment(small, "cifar10_short", "smoke", entries)
    both = [paper_tables.render(name, small) for name in ("quickstart", "cifar10_short")]
    assert paper_tables.render("all", small) == "\n\n".join(both) and both[1].startswith("cifar10_short: preset smoke")


def test_out_is_what_is_printed(small, tmp_path, capsys):
    assert paper_tables.main(["--results", str(small)]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "new" / "table.md"
    assert paper_tables.main(["--results", str(small), "--out", str(out)]) == 0
    assert capsys.readouterr().out == "" and out.read_bytes().decode() == printed


def test_errors_take_one_line(small, tmp_path, capsys):
    empty, blocked = str(tmp_path / "empty"), str(small / "experiments" / "quickstart.json" / "x")
    (tmp_path / "empty").mkdir()
    (latin := tmp_path / "latin.md").write_bytes("± <!-- table: quickstart -->".encode("latin-1"))
    for arguments, words in (
        (["--results", empty], "no experiment has been run"),
        (["--results", empty, "--table", "quickstart"], "python -m experiments.quickstart"),
        (["--results", str(small), "--out", blocked], "cannot be written"),
        (["--results", str(small), "--out", str(small)], "is no file"),
        (["--results", str(small), "--out", "/dev/null"], "is no file"),
        (["--results", str(small), "--table", "../quickstart"], "unknown table '../quickstart'; choose one of: claims"),
        (["--results", str(tmp_path / "typo"), "--table", "claims"], "no folder of results"),
        (["--results", str(small), "--into", str(next((small / "runs").iterdir()))], "no table to renew"),
        (["--results", str(small), "--into", str(small / "absent")], "cannot be read or written"),
        (["--results", str(small), "--into", str(latin)], "not UTF-8"),
    ):
        assert paper_tables.main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1 and words in printed.err
    next((small / "runs").glob("*allreduce*.csv")).unlink()
    assert paper_tables.main(["--results", str(small)]) == 2
    assert "1 of 15 runs of quickstart are missing" in capsys.readouterr().err


def test_a_bad_out_is_noticed_before_the_work(small, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(paper_tables, "render", lambda *_: pytest.fail("the work was begun"))
    monkeypatch.setattr(quickstart, "Experiment", lambda *_, **__: pytest.fail("the work was begun"))
    results = ["--results", str(small)]
    assert paper_tables.main([*results, "--out", str(tmp_path / "file" / "table.md")]) == 2
    assert quickstart.main([*results, "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_full_disk_keeps_what_was_there(small, tmp_path, monkeypatch, capsys):
    (tmp_path / "table.md").write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    arguments = ["--results", str(small), "--out"]
    assert paper_tables.main([*arguments, str(tmp_path / "table.md")]) == 2
    assert quickstart.main([*arguments, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("No space left") == error.count("\n") == 2
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["table.md"]
    assert (tmp_path / "table.md").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_standard_output(small):
    command = [sys.executable, "paper_tables.py", "--results", str(small)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space left" in done.stderr


def test_a_difference_with_a_word_is_never_printed_as_zero():
    """Bytes of the same epochs differ by the loss in each message alone, by the same in every seed."""
    cases = ((1.17e-3, 0.0, "+0.001 ± 0"), (-4e-3, 1e-3, "-0.004 ± 0.001"), (4e-3, 5e-3, "+0.00 ± 0.01"))
    for mean, half, said in cases:
        shown = plus_minus(Interval(mean, half, 5), "+")
        assert shown == said
        assert (float(shown.split()[0]) != 0) == bool(verdict(Interval(mean, half, 5)))
    assert plus_minus(Interval(0.0, 0.0, 5), "+") == "+0.00 ± 0.00"
