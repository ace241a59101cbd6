"""THEORY.md: every assumption and statement with its verdict, number, figure and command, from the committed tables.

    python theory_report.py            write THEORY.md from results/theory
    python theory_report.py --check    fail unless THEORY.md is exactly what the tables say (the check of CI)

Verdicts are computed by the rules in tables/theory_*.py, nowhere else; torch is never imported. To add a statement,
append it to the list of its script there.
"""

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from aldsgd.cache import replace_file
from aldsgd.errors import ConfigError
from aldsgd.theory import records
from aldsgd.theory.leaders import README
from experiments.options import Parser
from tables.theory_fading import fading_statements
from tables.theory_gossip import gossip_statements
from tables.theory_lies import lies_statements
from tables.theory_lsgd import lsgd_statements
from tables.theory_mixing import leader_statements, leader_table, spectrum_statements
from tables.theory_orders import orders_statements, selection_statements
from tables.theory_staleness import staleness_statements
from tables.theory_training import assumption_statements, rate_statements, scaling_statements
from tables.theory_verdicts import Frames, Statement, table

#: Title of a section, the problems that its statements are about where they name none, and its figures.
SCRIPTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "theory_selection": ("What AL-DSGD minimises", "logistic regression with a rare class", ("theory_selection",)),
    "theory_spectrum": ("Graphs, schedules and budgets", "any losses", ("theory_spectrum",)),
    "theory_leader_mixing": (
        "Leaders' mixing matrices, released order at every step",
        "any losses",
        ("theory_leader_mixing", "theory_leader_map"),
    ),
    "theory_orders": ("Printed order, and leaders at every k-th step", "any losses", ()),
    "theory_assumptions": (
        "Assumptions along real training, released order",
        "logistic regression and MLP on the digits; network on images",
        ("theory_assumptions",),
    ),
    "theory_rate": (
        "Rates and bounds, released order",
        "quadratics with additive noise; non-convex logistic regression",
        ("theory_rate",),
    ),
    "theory_scaling": ("Many workers, released order", "as named", ("theory_scaling",)),
    "theory_gossip": ("Today's schedules and drift correctors", "any losses", ()),
    "theory_fading": ("Leaders that fade with the rate", "as named", ()),
    "theory_lies": ("A worker that lies about its loss", "the paper's graphs", ()),
    "theory_staleness": ("Old copies and old leaders in virtual time", "as named", ()),
    "theory_lsgd": (
        "What LSGD's abstract claims, with EASGD beside it",
        "gradient flow with forces on two wells, an egg box and matrix factorisation",
        (),
    ),
}
OPENING = (
    "Written by `python theory_report.py` from the CSVs in `results/theory`; never edited by hand. A verdict is a rule "
    "in its code applied to the numbers: holds, fails, or where it holds. Each statement names the problem it was "
    "checked on, and says nothing of others. What can only fail by a mistake of the code stands in the last section. "
    "Intervals are 95 % Student-t over seeds; of many that hold, one in twenty misses by chance. "
    "Rates are per step, squared, comparable to rho; below one means that the workers agree; `matcha` has budget 0.5. "
    "Levels such as 53.8 % are the paper's graphs; x 3 means three rotating ones. Definitions and derivations: the "
    "docstrings of `aldsgd/theory/spectra.py`, `bounds.py`, `leaders.py`, `orders.py`, `adversary.py`, "
    "`quadratics.py`, `selection.py`, `fading.py`, `gossip.py`, `lies.py` and `staleness.py`."
)
SMOKE = " Preset smoke only shows that the code runs; no conclusion may be drawn from it."


def statements_of(script: str, frames: Frames, rho: float | None) -> list[Statement]:
    if script == "theory_assumptions":
        return assumption_statements(frames, rho)
    writer: dict[str, Callable[[Frames], list[Statement]]] = {
        "theory_spectrum": spectrum_statements,
        "theory_leader_mixing": leader_statements,
        "theory_orders": orders_statements,
        "theory_selection": selection_statements,
        "theory_rate": rate_statements,
        "theory_scaling": scaling_statements,
        "theory_gossip": gossip_statements,
        "theory_fading": fading_statements,
        "theory_lies": lies_statements,
        "theory_staleness": staleness_statements,
        "theory_lsgd": lsgd_statements,
    }
    return writer[script](frames)


def made_by(script: str, record: dict) -> str:
    """How a section's tables were made."""
    configuration = record["configuration"]
    seeds = configuration.get("seeds")
    made = [f"preset {record['preset']}"] + ([f"{len(seeds)} seeds"] if seeds else [])
    made.append(f"{configuration['cpu_seconds']:.0f} s of one core")
    return f"`python -m experiments.{script}` ({', '.join(made)})." + SMOKE * (record["preset"] == "smoke")


def samples_used(rows: pd.DataFrame) -> str:
    """The data sets, models and shards that the runs were made on."""
    counts = rows.groupby(["dataset", "model", "split", "train_images"], sort=False)["seed"].nunique()
    return (
        "Used: "
        + "; ".join(
            f"{dataset}, {model}, {split} shards, {samples} training samples, {seeds} seeds"
            for (dataset, model, split, samples), seeds in counts.items()
        )
        + "."
    )


def report(results: Path) -> str:
    """The text of THEORY.md. Raises ConfigError, naming the command, where a table is missing or altered."""
    read = {script: records.read(results, script) for script in SCRIPTS}
    schedules = read["theory_spectrum"][1]["spectrum_schedules"]
    used = schedules[
        (schedules["graph"] == "paper:53.8") & (schedules["method"] == "dpsgd") & (schedules["graphs"] == 1)
    ]
    rho = float(used["rho"].iloc[0]) if len(used) else None
    parts, checks = ["# What the theory assumes and states, checked numerically", OPENING], []
    for script, (title, problem, figures) in SCRIPTS.items():
        record, frames = read[script]
        shown = " ".join(f"![{title}](figures/{name}.png)" for name in figures)
        parts += [f"## {title}", made_by(script, record), *([shown] if shown else [])]
        if script == "theory_assumptions":
            parts.append(samples_used(frames["assumptions"]))
        figure = f"[{figures[0]}](figures/{figures[0]}.png)" if figures else ""
        lines = {True: checks, False: []}
        for found in statements_of(script, frames, rho):
            lines[found.code].append(
                {
                    "statement": found.text,
                    "problem": found.model or problem,
                    "verdict": found.verdict,
                    "number": found.number,
                    "figure": figure,
                    "command": f"`python -m experiments.{script}`",
                }
            )
        parts.append(table(pd.DataFrame(lines[False])))
        if script == "theory_leader_mixing":
            parts.append(f"README coefficients (c1, c2, p1, p2 = {', '.join(map(str, README))}), core by core:")
            parts.append(leader_table(frames))
    parts += ["## Checks of the code", "Proved, or true by construction: were one of them to fail, the code is wrong."]
    parts.append(table(pd.DataFrame(checks)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description="Write THEORY.md from the tables of the theory scripts.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables (default: results)")
    parser.add_argument("--out", type=Path, default=Path("THEORY.md"), help="file to write (default: THEORY.md)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail unless the file is up to date")
    try:
        options = parser.parse_args(arguments)
        text = report(options.results)
    except ConfigError as error:
        print(f"theory_report.py: {error}", file=sys.stderr)
        return 2
    try:
        if not options.check:
            replace_file(options.out, lambda path: path.write_bytes(text.encode()))
            return 0
        found = options.out.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no path at all
        print(f"theory_report.py: {options.out} cannot be used ({getattr(error, 'strerror', error)})", file=sys.stderr)
        return 2
    if found == text.encode():
        return 0
    lines = found.decode(errors="replace").splitlines()
    lines = list(difflib.unified_diff(lines, text.splitlines(), str(options.out), "from the tables", n=0))
    print("\n".join(lines[:20]), file=sys.stderr)
    print(f"theory_report.py: {options.out} is not what the tables say; run python theory_report.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
