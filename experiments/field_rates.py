"""Claim: in preset cpu of the experiments on today's gossip each method has its best rate, chosen beforehand.

What:     each search that a row of ``schedules``, ``skew``, ``compression``, ``local_steps`` or ``field`` names, over a
          grid of at least five rates; for CHOCO-SGD at one gamma, and at one rate three gammas or more. One seed (100)
          that no experiment uses. The rule: the largest mean worker accuracy at the end on 1,000 images held out of the
          training images; the test set is never looked at. A grid whose best lies at an edge is extended (``MORE``).
Command:  python -m experiments.field_rates --data DIR
Hardware: one CPU core; 581 runs of about 2 s.
Expect:   each best rate lies inside its grid; a test compares it with the one that is used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from aldsgd.links import Link
from experiments import compression, field, local_steps, schedules, skew
from experiments.configuration import RunConfig
from experiments.scales import SMOKE, TUNING_SEED, Entry, method, script
from experiments.today import CPU_TODAY, Row, heavy

SEEDS = dict.fromkeys(("smoke", "cpu"), (TUNING_SEED,))
RATES = (0.05, 0.1, 0.2, 0.4, 0.8)
#: Of runs whose momentum multiplies steps by ten.
HEAVY = (0.005, 0.01, 0.02, 0.04, 0.08)
#: Consensus step sizes of CHOCO-SGD, the first of which has the whole grid of rates, the others the rate in ``AT``.
GAMMAS = {
    "topk": (0.1, 0.025, 0.4),
    "randomk": (0.05, 0.0125, 0.2),
    "sign": (0.4, 0.1, 0.8),
    "qsgd": (0.1, 0.025, 0.4),
}
AT = 0.2
#: Search -> further rates, or gammas, where the best was at an edge.
MORE: dict[str, tuple[float, ...]] = {
    "schedules, one peer, momentum, D-PSGD": (0.16, 0.32),
    "schedules, one peer, momentum, AL-DSGD on D-PSGD": (0.16, 0.32),
    "schedules, 16 workers, static, momentum, D-PSGD": (0.16,),
    "schedules, 16 workers, static, momentum, AL-DSGD on D-PSGD": (0.16,),
    "schedules, 16 workers, one peer, momentum, D-PSGD": (0.16, 0.32),
    "schedules, 16 workers, one peer, momentum, AL-DSGD on D-PSGD": (0.16, 0.32),
    "field, QG-DSGDm": (0.16, 0.32),
    "field, D-PSGD, combine while adapting": (0.025, 0.0125),
    "skew, 53.8 %, QG-DSGDm": (0.16, 0.32),
    "skew, 53.8 %, gradient tracking": (0.025, 0.0125),
    "skew, ring of 16, QG-DSGDm": (0.16, 0.32),
    "skew, ring of 16, DecentLaM": (0.16, 0.32),
    "skew, ring of 16, gradient tracking": (0.025, 0.0125),
    "skew, ring of 16, D-PSGD, momentum": (0.16, 0.32),
    "skew, ring of 16, AL-DSGD on D-PSGD, momentum": (0.16, 0.32),
    "skew, ring of 16, all-reduce, momentum": (0.16, 0.32),
}
MORE_GAMMAS: dict[str, tuple[float, ...]] = {
    "compression, CHOCO-SGD, top-k 1 %": (0.00625,),
    "compression, CHOCO-SGD, random-k 1 %": (0.003125, 0.0008, 0.0002, 0.00005),
}


def searches() -> dict[str, Row]:
    """The first row of every search; skewed labels are those of the smallest concentration."""
    found: dict[str, Row] = {}
    for module in (schedules, field, local_steps, skew, compression):
        for row in module.rows(CPU_TODAY):
            if row.config.split == "iid" or row.config.dirichlet_alpha == min(skew.ALPHAS):
                found.setdefault(row.search, row)
    return found


def grid(row: Row) -> Iterator[Mapping[str, float]]:
    """What a search tries: field -> value."""
    rates = (*(HEAVY if heavy(row.config) else RATES), *MORE.get(row.search, ()))
    if row.config.method != "choco":
        yield from ({"lr": rate} for rate in rates)
        return
    first, *others = GAMMAS[row.config.options["compressor"]]
    others += MORE_GAMMAS.get(row.search, ())
    yield from ({"lr": rate, "gamma": first} for rate in rates)
    yield from ({"lr": AT, "gamma": gamma} for gamma in others)


def held_out(config: RunConfig) -> RunConfig:
    """The same run, tested once, on training images that it does not train on."""
    return config.but(validation=1000, eval_every=config.epochs, **asdict(Link()))


def configurations(preset: str, seed: int) -> list[Entry]:
    """One run per search and point of its grid, labelled "field, MATCHA, lr 0.2"."""
    if preset == "smoke":
        base = SMOKE.but(validation=64, seed=seed)
        return [(f"field, D-PSGD, lr {lr:g}", method(base.but(lr=lr), "D-PSGD"), "field, D-PSGD") for lr in (0.1, 0.2)]
    return [
        (
            f"{name}, " + ", ".join(f"{field} {value:g}" for field, value in point.items()),
            held_out(row.config).but(seed=seed, **point),
            name,
        )
        for name, row in searches().items()
        for point in grid(row)
    ]


if __name__ == "__main__":
    script(__file__, __doc__, configurations, SEEDS)
