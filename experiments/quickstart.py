"""Claim: on the bundled digits, in under two minutes, every method of this repository side by side.

What:     no exchange, released-schedule D-PSGD, D-PSGD, MATCHA, all-reduce, AL-DSGD on each core, and AL-DSGD with
          three rotating graphs; 8 workers on the paper's 53.8 % graph, five seeds.
Command:  python -m experiments.quickstart
Hardware: two CPU cores. Time: about one minute.
Expect:   released-schedule D-PSGD leaves the workers apart and D-PSGD does not; MATCHA sends about half the bytes.
          Digits are too easy to rank the methods: intervals overlap.
"""

from experiments.configuration import RunConfig
from experiments.scales import GRAPH, PLAIN, SEEDS, Entry, method, script

EPOCHS = {"smoke": 2, "cpu": 30, "paper": 30}
COMPARED = (
    "no exchange", "D-PSGD (released schedule)", "D-PSGD", "MATCHA", "all-reduce",
    "AL-DSGD on D-PSGD", "AL-DSGD on MATCHA", "AL-DSGD, three graphs",
)  # fmt: skip


def configurations(preset: str, seed: int) -> list[Entry]:
    """The runs of one seed, labelled; digits are digits in every preset, only ``smoke`` is shorter."""
    base = RunConfig(dataset="digits", model="mlp", graph=GRAPH, lr=0.1, epochs=EPOCHS[preset], seed=seed, **PLAIN)
    return [(label, method(base, label)) for label in COMPARED]


if __name__ == "__main__":
    # So small a network is faster on one thread, and gives the same digits on every machine of a kind.
    script(__file__, __doc__, configurations, SEEDS | {"smoke": SEEDS["cpu"]}, threads="1")
