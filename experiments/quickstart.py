"""Claim: on the bundled digits, in under two minutes, every method of this repository side by side.

What:     no exchange, released-schedule D-PSGD, D-PSGD, MATCHA, all-reduce, AL-DSGD on each core, and AL-DSGD with
          three rotating graphs; 8 workers on the paper's 53.8 % graph, five seeds.
Command:  python -m experiments.quickstart
Hardware: two CPU cores. Time: about one minute.
Expect:   released-schedule D-PSGD leaves the workers apart and D-PSGD does not; MATCHA sends about half the bytes.
          Digits are too easy to rank the methods: intervals overlap.
"""

from dataclasses import replace

import paper_tables
from experiments.common import Entry, command, parser, run_experiment
from experiments.configuration import RunConfig

SEEDS = (0, 1, 2, 3, 4)
EPOCHS = {"smoke": 2, "cpu": 30, "paper": 30}


def configurations(preset: str, seed: int) -> list[Entry]:
    """The runs of one seed, labelled; digits are digits in every preset, only ``smoke`` is shorter."""
    base = RunConfig(dataset="digits", model="mlp", graph="paper:53.8", lr=0.1, epochs=EPOCHS[preset], seed=seed)
    return [
        ("no exchange", replace(base, method="single")),
        ("D-PSGD (released schedule)", replace(base, method="dpsgd_released")),
        ("D-PSGD", replace(base, method="dpsgd")),
        ("MATCHA", replace(base, method="matcha")),
        ("all-reduce", replace(base, method="allreduce")),
        ("AL-DSGD on D-PSGD", replace(base, method="aldsgd", core="dpsgd")),
        ("AL-DSGD on MATCHA", replace(base, method="aldsgd", core="matcha")),
        ("AL-DSGD, three graphs", replace(base, method="aldsgd", core="dpsgd", graphs=3)),
    ]


def main() -> None:
    p = parser(__doc__, SEEDS)
    # So small a network is faster on one thread, and gives the same digits on every machine of a kind.
    p.set_defaults(threads=1)
    options = p.parse_args()
    run_experiment("quickstart", configurations, options)
    print(paper_tables.render("quickstart", options.results))


if __name__ == "__main__":
    command(main)
