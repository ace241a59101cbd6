"""Claim under test: leaders are a security hole, since a worker leads by a number that it reports about itself.

What:     one faulty worker at the place of the highest degree of the 53.8 % graph, or another one, or two, under every
          method; where a method has leaders, the faulty worker also lies, of every loss that it reports it says 0.
          Accuracy is that of the honest workers. Defences: how a worker combines what it hears, how long one may lead
          it, and leaders told by running averages or by the batch of whoever hears them.
          cpu: Fashion-MNIST cut to 3,000 training and 2,000 test images, an MLP, 8 epochs, lr 0.2 (tuned for D-PSGD
          with identical workers), five seeds; a part of the faults, places and defences. Gradient tracking, which
          diverges there, at 0.05 with Metropolis weights. paper: CIFAR-10, narrow ResNet-50, all of them.
Command:  python -m experiments.faults --data DIR
Hardware: one CPU core; 310 runs of about 2 s each, 10 minutes.
Expect:   written before the runs. E is what the mean honest worker loses to one faulty worker under AL-DSGD on D-PSGD,
          less what it loses under D-PSGD, paired by seed. For each of three lies about a bad model (random, scaled,
          flipped labels): the hole is confirmed where the 95 % interval of E lies above 0, refuted where it lies below
          0 or within 1 point of it, and open otherwise; as a whole it is what two of three are. The radius of clipped
          pulls is the smallest of 0.1, 0.3, 1 and 3 at which D-PSGD without faults loses less than a point with a seed
          of its own.
"""

from aldsgd.graphs import parse
from experiments.configuration import RunConfig
from experiments.scales import CPU_FASHION, PAPER_CIFAR10, SMOKE, Entry, method, script

SEEDS = {"smoke": (0, 1), "cpu": (0, 1, 2, 3, 4), "paper": (0, 1, 2, 3, 4)}
#: Label -> what a run has besides the method of that name.
METHODS = {
    "D-PSGD": {}, "MATCHA": {}, "all-reduce": {}, "LSGD": {"method": "lsgd"},
    "EASGD": {"method": "easgd"},
    "gradient tracking": {"method": "gt", "form": "adapt_then_combine", "weights": "metropolis", "lr": 0.05},
    "AL-DSGD on D-PSGD": {}, "AL-DSGD on MATCHA": {}, "AL-DSGD, three graphs": {},
}  # fmt: skip
PLAIN, LED = "D-PSGD", "AL-DSGD on D-PSGD"
#: Methods in which someone leads by a loss that it reports.
LEADERS = ("LSGD", LED, "AL-DSGD on MATCHA", "AL-DSGD, three graphs")
#: Lies about a bad model, by which the claim is judged.
LIES = ("random", "scaled", "flipped")
FAULTS = ("honest", *LIES, "nan", "growing", "noise", "sign", "stopped", "old")
PLACES = ("one high", "one low", "two high", "two low")
DEFENCES = {
    "clip": {"defence": "clip", "radius": 0.3},
    "trimmed": {"defence": "trimmed"},
    "median": {"defence": "median"},
    "cap": {"lead_cap": 4},
    "average": {"judge": "average"},
    "receiver": {"judge": "receiver"},
}
#: Defences that are none without leaders among neighbours.
OF_LEADERS = ("cap", "average", "receiver")
CPU = CPU_FASHION.but(train_images=3000)


def at(base: RunConfig, place: str) -> tuple[int, ...]:
    """Numbers of the workers at a place: one or two of the highest or lowest degree, ties to the first."""
    count, which = place.split()
    degrees = parse(base.graph, base.workers).degrees
    order = sorted(range(base.workers), key=lambda i: (-degrees[i] if which == "high" else degrees[i], i))
    return tuple(sorted(order[: 1 if count == "one" else 2]))


def run_of(base: RunConfig, label: str, fault: str, place: str, defence: str) -> RunConfig:
    """One run; fault "no fault" and defence "none" are none."""
    changes = dict(METHODS[label])
    config = base.but(**changes) if "method" in changes else method(base, label).but(**changes)
    if fault != "no fault":
        config = config.but(fault=fault, faulty=at(base, place), lies=label in LEADERS)
    return config.but(**DEFENCES.get(defence, {}))


def matrix(preset: str) -> list[tuple[str, str, str, str]]:
    """(method, fault, place, defence) of every run of a seed."""
    if preset == "smoke":
        return [
            (label, fault, "one high", defence)
            for label in (PLAIN, LED)
            for fault in ("no fault", "random")
            for defence in ("none", "trimmed")
        ]
    if preset == "cpu":
        found = [(label, "no fault", "", "none") for label in METHODS]
        found += [(PLAIN, fault, "one high", "none") for fault in FAULTS if fault not in ("honest", "old")]
        found += [(LED, fault, "one high", "none") for fault in FAULTS if fault != "old"]
        others = [label for label in METHODS if label not in (PLAIN, LED)]
        found += [(label, fault, "one high", "none") for label in others for fault in ("random", "flipped")]
        found += [(label, "flipped", place, "none") for label in (PLAIN, LED) for place in ("one low", "two high")]
        for defence in DEFENCES:
            for label in (LED,) if defence in OF_LEADERS else (PLAIN, LED):
                found += [(label, fault, "one high", defence) for fault in ("no fault", "flipped")]
        return found
    return [
        (label, fault, place, defence)
        for label in METHODS
        for defence in ("none", *DEFENCES)
        if defence == "none" or (label in LEADERS[1:] or defence not in OF_LEADERS) and label != "all-reduce"
        for fault in ("no fault", *FAULTS)
        for place in (PLACES if fault != "no fault" else ("",))
        if fault != "honest" or label in LEADERS
    ]


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every run, labelled "AL-DSGD on D-PSGD, random, one high, trimmed"; the condition leaves out the method."""
    base = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER_CIFAR10}[preset].but(seed=seed)
    found = []
    for label, fault, place, defence in matrix(preset):
        condition = ", ".join([fault, *([place] if fault != "no fault" else []), defence])
        found.append((f"{label}, {condition}", run_of(base, label, fault, place, defence), condition))
    return found


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
