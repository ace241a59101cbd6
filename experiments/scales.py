"""What the presets stand for, and the methods side by side: shared settings, so that equal runs are trained once.

smoke: the bundled digits, seconds. cpu: real images, a small network, a subset and few epochs, for two CPU cores. mid:
all of CIFAR-10, a network that learns, 20 epochs (12 for breadth), CPU hours. paper: the released code's setting.
Learning rates: the paper's was tuned for D-PSGD and reused for every method, and so are those here: of each data set's
grid, the one at which D-PSGD's mean worker ends best with a seed that no experiment uses (``experiments.tuning``); each
method's own is in ``experiments.rates``. They drop by 10 at half and at three quarters, as the paper's do.
"""

from collections.abc import Callable
from pathlib import Path

from aldsgd.errors import ConfigError
from baselines.registry import VARIANTS
from experiments.configuration import RunConfig, linked

#: One run of an experiment: the label of its curve or table row, and its configuration; third, the name of the
#: condition under which methods are compared, where that does not follow from the configurations.
Entry = tuple[str, RunConfig] | tuple[str, RunConfig, str]
SEEDS = {"smoke": (0, 1), "cpu": (0, 1, 2, 3, 4), "paper": (0, 1, 2, 3, 4)}
#: Of the experiments that have a preset mid.
MID_SEEDS = SEEDS | {"mid": (0, 1, 2, 3, 4)}
TUNING_SEED = 100
#: The sparsest single graph of the paper that connects all workers; a tree with degrees 1, 2 and 3.
GRAPH = "paper:53.8"
LEVELS = ("100", "84.6", "69.2", "53.8", "38.5")

#: Runs recorded before statistics were re-estimated from images augmented as in training.
PLAIN = {"batchnorm": "reestimated"}

SMOKE = RunConfig(
    dataset="digits", model="mlp", train_images=256, test_images=64, graph=GRAPH, lr=0.1, epochs=2, **PLAIN
)
CPU_CIFAR10 = RunConfig(
    dataset="cifar10", model="cnn", train_images=6000, test_images=2000, bn_images=1024, augment=True, **PLAIN,
    graph=GRAPH, lr=0.8, lr_drops=((4, 0.1), (6, 0.1)), epochs=8, eval_every=2,
)  # fmt: skip
CPU_CIFAR100 = CPU_CIFAR10.but(dataset="cifar100")
# Only tested at the end: its experiments ask where methods end, and there are many.
CPU_FASHION = RunConfig(
    dataset="fashionmnist", model="mlp", train_images=10000, test_images=2000, **PLAIN,
    graph=GRAPH, lr=0.2, lr_drops=((4, 0.1), (6, 0.1)), epochs=8, eval_every=8,
)  # fmt: skip
#: The end is tested under three policies of BatchNorm; the tests before it take a part of the images.
MID = RunConfig(
    dataset="cifar10", model="resnet_small", augment=True, graph=GRAPH, also=("own", "fresh"),
    lr=0.4, lr_drops=((10, 0.1), (15, 0.1)), epochs=20, interim_images=2000,
)  # fmt: skip
#: A tenth of an hour where the others take one; which images it has follows from the seed.
MID_FASHION = RunConfig(
    dataset="fashionmnist", model="mlp", train_images=10000, resample=True,
    graph=GRAPH, lr=0.2, lr_drops=((4, 0.1), (6, 0.1)), epochs=8, eval_every=8,
)  # fmt: skip
#: For many rules of who leads: a quarter of that.
LEADING = MID_FASHION.but(train_images=2500, test_images=2000)
#: For breadth: fewer epochs, tested at the end alone.
MID_BREADTH = MID.but(epochs=12, lr_drops=((6, 0.1), (9, 0.1)), eval_every=12, interim_images=None)
MID_CNN = MID_BREADTH.but(model="cnn")
#: No statistics of BatchNorm, so that no policy of theirs is mixed into the averaged model.
GROUPS = MID_BREADTH.but(model="resnet_small_gn", also=())
#: Today's practice.
MOMENTUM = MID_BREADTH.but(momentum=0.9, nesterov=True, schedule="cosine", lr=0.08, lr_drops=())
#: One worker with all the images, on both networks.
ALONE = {
    f"{base.model}, alone": base.but(workers=1, graph="complete", also=(), eval_every=base.epochs, interim_images=None)
    for base in (MID, MID_CNN)
}
PAPER_CIFAR10 = RunConfig(
    dataset="cifar10", model="resnet50_narrow", augment=True, graph=GRAPH,
    lr=0.4, lr_drops=((100, 0.1), (150, 0.1)), epochs=200, eval_every=5,
)  # fmt: skip
PAPER_CIFAR100 = PAPER_CIFAR10.but(dataset="cifar100", model="wrn28_10")

CIFAR10 = {"smoke": SMOKE, "cpu": CPU_CIFAR10, "mid": MID, "paper": PAPER_CIFAR10}
CIFAR100 = {"smoke": SMOKE.but(model="logistic"), "cpu": CPU_CIFAR100, "paper": PAPER_CIFAR100}
#: Experiments that need many runs: small images and an MLP at cpu scale, the paper's setting otherwise.
SMALL = {"smoke": SMOKE, "cpu": CPU_FASHION, "mid": MID_FASHION, "paper": PAPER_CIFAR10}


def method(base: RunConfig, label: str) -> RunConfig:
    """``base`` with the method of that label; KeyError for a label that no method has."""
    return base.but(**VARIANTS[label].changes)


#: Condition of what ``twice`` gives, or the end of its name.
TWICE = "twice the epochs"


def twice(config: RunConfig) -> RunConfig:
    """The same run at twice the epochs, with the drops of the rate where they were."""
    drops = tuple((2 * epoch, factor) for epoch, factor in config.lr_drops)
    return config.but(epochs=2 * config.epochs, lr_drops=drops)


#: What the main comparison of preset mid trains.
MAIN = (
    "no exchange", "D-PSGD (released schedule)", "D-PSGD", "D-PSGD, three graphs", "MATCHA", "all-reduce",
    "AL-DSGD on D-PSGD", "AL-DSGD, three graphs", "AL-DSGD on MATCHA",
)  # fmt: skip
#: What a comparison of all methods trains.
EVERY = tuple(label for label, variant in VARIANTS.items() if variant.standard)


def every_method(base: RunConfig) -> list[Entry]:
    """Every method on one base configuration, labelled."""
    return [(label, method(base, label)) for label in EVERY]


def entries_of(configurations: Callable[[str, int], list[Entry]], preset: str, seeds, link: str | None = None) -> list:
    """(label, seed, configuration) of every run of an experiment, seeds outermost."""
    return [(label, seed, linked(config, link)) for seed in seeds for label, config, *_ in configurations(preset, seed)]


def conditions_of(configurations: Callable[[str, int], list[Entry]], preset: str) -> dict[str, str]:
    """Label -> name of its condition, of the entries that give one."""
    return {label: named[0] for label, _, *named in configurations(preset, 0) if named}


def script(file: str, doc: str, configurations: Callable[[str, int], list[Entry]], seeds=SEEDS, **defaults) -> None:
    """The command line of the experiment in ``file``: train what is missing, print its table.

    ``defaults``: of options of its own, such as ``threads=1``.
    """
    from experiments.command import command
    from experiments.options import execution, parser

    def main(session) -> None:
        p = parser(doc, None, jobs=True)
        p.set_defaults(**defaults)
        options = p.parse_args()
        if options.preset not in seeds:
            raise ConfigError(f"{Path(file).stem} has no preset {options.preset}; choose one of: {', '.join(seeds)}")
        options.seeds = options.seeds or list(seeds[options.preset])
        how = execution(options)
        import paper_tables
        from experiments.runner import run_experiment

        name = Path(file).stem
        entries = entries_of(configurations, options.preset, options.seeds, options.link)
        run_experiment(session, name, entries, how, options.preset, conditions_of(configurations, options.preset))
        print(paper_tables.render(name, how.results))

    command(main)
