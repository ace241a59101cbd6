"""What the experiments on gossip as it is done today share: settings, the rows of a comparison, and their rates.

Every run has the rate on a cosine to zero, without warm-up. In preset cpu a row takes the rate that a search of
``experiments.field_rates`` chose; close rows share a search, as the head of each script says. In preset paper methods
have the paper's rate, and a tenth of it where momentum multiplies steps by ten.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from aldsgd.errors import ConfigError
from experiments.configuration import RunConfig
from experiments.scales import GRAPH, PAPER_CIFAR10, PLAIN, SMOKE, Entry
from experiments.today_rates import CHOSEN

COSINE = {"schedule": "cosine", "lr_drops": ()}
NESTEROV = {"momentum": 0.9, "nesterov": True}
#: Which images a run has follows from its seed.
CPU_TODAY = RunConfig(
    dataset="fashionmnist", model="mlp_narrow", train_images=4096, test_images=2000, resample=True, **PLAIN,
    graph=GRAPH, lr=0.2, epochs=8, eval_every=8, **COSINE,
)  # fmt: skip
BASES = {"smoke": SMOKE.but(**COSINE), "cpu": CPU_TODAY, "paper": PAPER_CIFAR10.but(**COSINE)}
#: Methods whose own momentum of 0.9 multiplies steps by ten.
HEAVY = ("qg", "decentlam", "mt", "eamsgd")


class Row(NamedTuple):
    """One row of a comparison: its configuration at any rate, the condition that it shares with those it is compared
    with, and the search whose rate it takes."""

    label: str
    config: RunConfig
    condition: str
    search: str


def heavy(config: RunConfig) -> bool:
    """Whether momentum multiplies the steps of a run by ten."""
    return config.momentum > 0 or config.method in HEAVY


def chosen(search: str) -> dict[str, float]:
    """Field -> value that a search chose. Raises ConfigError where it has not been made."""
    if search not in CHOSEN:
        raise ConfigError(
            f"no rate has been chosen for {search}; run python -m experiments.field_rates, and name it in "
            "experiments/today_rates.py"
        )
    return CHOSEN[search]


def at_rates(
    rows: Callable[[RunConfig], Iterable[Row]], preset: str, seed: int, smoke: Callable[[Row], bool]
) -> list[Entry]:
    """The rows on the base of a preset, each at its own rate; in preset smoke those that ``smoke`` takes."""
    base = BASES[preset].but(seed=seed)

    def rates(row: Row) -> dict[str, float]:
        return chosen(row.search) if preset == "cpu" else {"lr": base.lr * (0.1 if heavy(row.config) else 1)}

    taken = [row for row in rows(base) if preset != "smoke" or smoke(row)]
    return [(row.label, row.config.but(**rates(row)), row.condition) for row in taken]


def longer(config: RunConfig, epochs: int) -> RunConfig:
    """The same run over other epochs, its schedule of rates stretched over them, tested at the end."""
    return config.but(epochs=epochs, eval_every=epochs)
