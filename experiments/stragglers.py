"""Claim under test: with slow workers, methods that do not wait end ahead of those that do, in the same virtual time.

What:     synchronous methods and their asynchronous forms (D-PSGD combining while adapting: ADSGD, SWIFT, AD-PSGD;
          all-reduce: the asynchronous server; AL-DSGD: asynchronous AL-DSGD, with leaders of any age and with a bound
          on it), where one worker of eight is 1.5 to 10 times slower, or all times are exponential. Each run has the
          time of as many epochs of unhindered workers. cpu: Fashion-MNIST, 3,000 images, an MLP, 4 epochs, five seeds;
          paper: also five times, and two slow workers. The rate is D-PSGD's for all. Metropolis weights: combining
          while adapting diverges at this rate with the equal ones, whose matrix has an eigenvalue near -1.
Command:  python -m experiments.stragglers --data DIR
Hardware: one CPU core; 270 runs of about 1 s.
Expect:   written before the runs. Judged by the mean worker at the end. An asynchronous method has overtaken its
          synchronous form at a factor k where the paired 95 % interval of the difference lies above zero at one slow
          worker k times slower, and at every larger k that was run; the factor itself is where the difference, linear
          in log k between those that were run, last passes zero, one per seed, with the interval of its logarithm.
          Leaders that may be old help (or hurt) where the interval of asynchronous AL-DSGD, any age, less ADSGD lies
          above (or below) zero. Likely: overtaken between 1.5 and 3; no gain of leaders.
"""

from experiments.configuration import RunConfig
from experiments.scales import CPU_FASHION, PAPER_CIFAR10, SMOKE, Entry, method, script

CPU = CPU_FASHION.but(
    train_images=3000, test_images=1000, epochs=4, lr_drops=((2, 0.1), (3, 0.1)), eval_every=1, interim_images=200
)
BASES = {"smoke": SMOKE, "cpu": CPU, "paper": PAPER_CIFAR10}
WAITING = "D-PSGD, combine while adapting"
#: Asynchronous method -> the synchronous method that it is a form of.
FORMS = {
    "ADSGD": WAITING, "SWIFT": WAITING, "AD-PSGD": WAITING, "asynchronous server": "all-reduce",
    "asynchronous AL-DSGD": "AL-DSGD on D-PSGD", "asynchronous AL-DSGD, any age": "AL-DSGD on D-PSGD",
}  # fmt: skip
METHODS = (*dict.fromkeys(FORMS.values()), *FORMS)
#: Left out where seconds count.
FURTHER = ("SWIFT", "asynchronous AL-DSGD")
#: How many times slower one worker is.
FACTORS = (1.5, 2.0, 3.0, 10.0)


def one_slow(factor: float) -> str:
    """The name of a condition."""
    return f"1 slow, {factor:g} x"


def conditions(preset: str) -> dict[str, dict]:
    """Name -> fields of a run."""
    if preset == "smoke":
        return {one_slow(factor): dict(stragglers=1, slowdown=factor) for factor in FACTORS[2:]}
    found = {"equal times": {}} | {one_slow(factor): dict(stragglers=1, slowdown=factor) for factor in FACTORS}
    if preset == "paper":
        found |= {one_slow(5.0): dict(stragglers=1, slowdown=5.0)}
        found |= {f"2 slow, {factor:g} x": dict(stragglers=2, slowdown=factor) for factor in (3.0, 10.0)}
    return found | {"exponential times": dict(times="exponential")}


def timed(base: RunConfig, label: str) -> RunConfig:
    """A method in virtual time."""
    made = method(base, label)
    weights = {"weights": "metropolis"} if made.uses_graph and label != "AD-PSGD" else {}
    return made.but(virtual=label not in FORMS, **weights)


def configurations(preset: str, seed: int) -> list[Entry]:
    """Every method under every condition, labelled "ADSGD, 1 slow, 3 x"."""
    return [
        (f"{label}, {name}", timed(BASES[preset].but(seed=seed, **changes), label), name)
        for name, changes in conditions(preset).items()
        for label in METHODS
        if preset != "smoke" or label not in FURTHER
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations)
