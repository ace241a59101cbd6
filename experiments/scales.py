"""What the presets stand for, and the methods side by side: shared settings, so that equal runs are trained once.

smoke: the bundled digits, seconds. cpu: real images, a small network, a subset and few epochs, for two CPU cores.
paper: the released code's setting. Learning rates: the paper's was tuned for D-PSGD and reused for every method, and so
are those of cpu: of each data set's grid, the one at which D-PSGD's mean worker ends best with a seed that no
experiment uses (``experiments.tuning``). They drop by 10 at half and at three quarters, as the paper's do.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import paper_tables
from experiments.common import Entry, command, parser, run_experiment
from experiments.configuration import RunConfig

SEEDS = {"smoke": (0, 1), "cpu": (0, 1, 2, 3, 4), "paper": (0, 1, 2, 3, 4)}
TUNING_SEED = 100
#: The sparsest single graph of the paper that connects all workers; a tree with degrees 1, 2 and 3.
GRAPH = "paper:53.8"
LEVELS = ("100", "84.6", "69.2", "53.8", "38.5")

SMOKE = RunConfig(dataset="digits", model="mlp", train_images=256, test_images=64, graph=GRAPH, lr=0.1, epochs=2)
CPU_CIFAR10 = RunConfig(
    dataset="cifar10", model="cnn", train_images=6000, test_images=2000, bn_images=1024, augment=True,
    graph=GRAPH, lr=0.8, lr_drops=((4, 0.1), (6, 0.1)), epochs=8, eval_every=2,
)  # fmt: skip
CPU_CIFAR100 = replace(CPU_CIFAR10, dataset="cifar100")
# Only tested at the end: its experiments ask where methods end, and there are many.
CPU_FASHION = RunConfig(
    dataset="fashionmnist", model="mlp", train_images=10000, test_images=2000,
    graph=GRAPH, lr=0.2, lr_drops=((4, 0.1), (6, 0.1)), epochs=8, eval_every=8,
)  # fmt: skip
PAPER_CIFAR10 = RunConfig(
    dataset="cifar10", model="resnet50_narrow", augment=True, graph=GRAPH,
    lr=0.4, lr_drops=((100, 0.1), (150, 0.1)), epochs=200, eval_every=5,
)  # fmt: skip
PAPER_CIFAR100 = replace(PAPER_CIFAR10, dataset="cifar100", model="wrn28_10")

CIFAR10 = {"smoke": SMOKE, "cpu": CPU_CIFAR10, "paper": PAPER_CIFAR10}
CIFAR100 = {"smoke": replace(SMOKE, model="logistic"), "cpu": CPU_CIFAR100, "paper": PAPER_CIFAR100}
#: Experiments that need many runs: small images and an MLP at cpu scale, the paper's setting otherwise.
SMALL = {"smoke": SMOKE, "cpu": CPU_FASHION, "paper": PAPER_CIFAR10}


def method(base: RunConfig, label: str) -> RunConfig:
    """``base`` with the method of that label; KeyError for a label that is not one of ``METHODS``."""
    return replace(base, **METHODS[label])


METHODS = {
    "no exchange": {"method": "single"},
    "D-PSGD (released schedule)": {"method": "dpsgd_released"},
    "D-PSGD": {"method": "dpsgd"},
    "MATCHA": {"method": "matcha"},
    "all-reduce": {"method": "allreduce"},
    "AL-DSGD on released schedule": {"method": "aldsgd", "core": "dpsgd_released"},
    "AL-DSGD on D-PSGD": {"method": "aldsgd", "core": "dpsgd"},
    "AL-DSGD on MATCHA": {"method": "aldsgd", "core": "matcha"},
    "AL-DSGD, three graphs": {"method": "aldsgd", "core": "dpsgd", "graphs": 3},
    "AL-DSGD on MATCHA, three graphs": {"method": "aldsgd", "core": "matcha", "graphs": 3},
}


def every_method(base: RunConfig) -> list[Entry]:
    """Every method on one base configuration, labelled."""
    return [(label, method(base, label)) for label in METHODS]


def script(name: str, doc: str, configurations: Callable[[str, int], list[Entry]], seeds=SEEDS) -> None:
    """The command line of an experiment: train what is missing, print its table."""

    def main() -> None:
        p = parser(doc, seeds["cpu"])
        p.set_defaults(seeds=None)
        options: argparse.Namespace = p.parse_args()
        options.seeds = options.seeds or list(seeds[options.preset])
        run_experiment(name, configurations, options)
        print(paper_tables.render(name, options.results))

    command(main)
