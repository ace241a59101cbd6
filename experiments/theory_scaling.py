"""Claim: the code's step costs what its edges cost, up to 4096 workers; what more workers do depends on the graph.

What:     D-PSGD and AL-DSGD (the library's own algorithms and exchange) with n = 8 to 4096 virtual workers on rings,
          tori, exponential and random graphs, Metropolis weights. Iterations until exchanges alone (random leaders)
          leave a hundredth of the disagreement; until the workers' mean excess loss is a hundredth of the start's on
          noisy quadratics, and a tenth on logistic regression; each censored at K_max, and marked. Consensus distance.
          Seconds per exchange against n and edges.
Command:  python -m experiments.theory_scaling
Hardware: two CPU cores. Time: about three minutes.
Expect:   seconds per exchange in proportion to edges; iterations to agree hardly depend on n on exponential graphs and
          grow beyond K_max on rings; AL-DSGD needs more iterations where noise must be averaged.
"""

import math
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from aldsgd.algorithm import Algorithm, advance
from aldsgd.graphs import Topology, erdos_renyi, exponential, ring, torus
from aldsgd.leaders import ALDSGD
from aldsgd.local import LocalRule
from aldsgd.mixing import metropolis_matrix
from aldsgd.network import LocalNetwork
from aldsgd.settings import Settings
from aldsgd.theory.spectra import circulant_spectrum
from baselines.dpsgd import DPSGD
from experiments.command import command
from experiments.theory_common import parser, run

WORKERS = {"smoke": (8, 32), "cpu": (8, 32, 128, 512, 1024, 4096)}
K_MAX = {"smoke": 60, "cpu": 300}
DIMENSIONS, ETA = 32, 0.1
REPEATS = {"smoke": 5, "cpu": 50}


def torus_sides(n: int) -> tuple[int, int]:
    """The two sides of n workers, as square as n allows."""
    rows = max(side for side in range(1, math.isqrt(n) + 1) if n % side == 0)
    return rows, n // rows


def graphs(n: int) -> dict[str, Topology]:
    degree = 2 * math.log2(n)
    return {
        "ring": ring(n),
        "torus": torus(*torus_sides(n)),
        "exponential": exponential(n),
        "erdos_renyi, mean degree 2 log2 n": erdos_renyi(n, min(1.0, degree / (n - 1)), seed=0),
    }


def metropolis_rho(name: str, graph: Topology) -> float:
    """rho of Metropolis weights by closed forms, which reach 4096 workers; NaN for random graphs above 1024."""
    if name in ("ring", "exponential"):
        hops = [1] if name == "ring" else [2**k for k in range((graph.n - 1).bit_length())]
        eigenvalues = circulant_spectrum(graph.n, hops)
    elif name == "torus" and min(torus_sides(graph.n)) > 2:
        one, two = (circulant_spectrum(side, [1]) for side in torus_sides(graph.n))
        eigenvalues = np.sort((one[:, None] + two[None]).ravel())
    elif graph.n <= 1024:
        values = np.linalg.eigvalsh(metropolis_matrix(graph))
        return float(max(abs(values[0]), abs(values[-2])) ** 2)
    else:
        return math.nan
    # Every degree is the same, so W = I - L / (1 + degree).
    values = 1 - eigenvalues / (1 + graph.degrees[0])
    return float(max(abs(values[1]), abs(values[-1])) ** 2)


class StackedQuadratics:
    """f_i(x) = (1/2) ||H^(1/2) (x - a_i)||^2, eigenvalues of H from 1 to 0.1, E||a_i||^2 = 1, E||noise||^2 = 9.

    The noise of one worker alone keeps its excess loss above the target at this step: the workers must average.
    """

    target, eta = 0.01, ETA

    def __init__(self, n: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.hessian = torch.linspace(1.0, 0.1, DIMENSIONS)
        self.centres = torch.randn(n, DIMENSIONS, generator=generator) / math.sqrt(DIMENSIONS)
        self.best = self.centres.mean(dim=0)
        self.generator = generator
        self.start = torch.full((n, DIMENSIONS), 0.5)

    def draw(self, x):
        noise = torch.randn(x.shape, generator=self.generator) * (3 / math.sqrt(DIMENSIONS))
        away = x - self.centres
        return ((0.5 * self.hessian * away + noise) * away).sum(dim=1), self.hessian * away + noise

    def excess(self, x):
        """Mean over workers of F(x_i) - F_inf."""
        return float(0.5 * (self.hessian * (x - self.best).square()).sum(dim=1).mean())


class StackedLogistic:
    """Logistic regression with ridge 0.01, 16 samples for each worker around one plane, batches of 4."""

    target, eta = 0.1, ETA

    def __init__(self, n: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        plane = torch.randn(DIMENSIONS, generator=generator)
        features = torch.randn(n, 16, DIMENSIONS, generator=generator)
        flips = torch.where(torch.rand(n, 16, generator=generator) < 0.1, -1.0, 1.0)
        self.signed = features * ((features @ plane).sign() * flips)[:, :, None]
        self.generator = generator
        self.start = torch.zeros(n, DIMENSIONS)
        # Excess is measured on at most 4096 fixed samples of all workers, at the same cost for every n.
        self.pool = self.signed.reshape(-1, DIMENSIONS)[:: max(1, n * 16 // 4096)]
        self.least = self._minimum()

    def _objective(self, x):
        margins = x @ self.pool.T
        return torch.nn.functional.softplus(-margins).mean(dim=-1) + 0.005 * x.square().sum(dim=-1)

    def _minimum(self) -> float:
        x = torch.zeros(DIMENSIONS, requires_grad=True)
        solver = torch.optim.LBFGS([x], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

        def closure():
            solver.zero_grad()
            value = self._objective(x)
            value.backward()
            return value

        solver.step(closure)
        return float(self._objective(x).detach())

    def draw(self, x):
        pick = torch.randint(16, (len(x), 4), generator=self.generator)
        signed = self.signed[torch.arange(len(x))[:, None], pick]
        margins = torch.einsum("nbd,nd->nb", signed, x)
        losses = torch.nn.functional.softplus(-margins).mean(dim=1) + 0.005 * x.square().sum(dim=1)
        gradients = -torch.einsum("nb,nbd->nd", torch.sigmoid(-margins), signed) / 4 + 0.01 * x
        return losses, gradients

    def excess(self, x):
        return float(self._objective(x[:: max(1, len(x) // 64)]).mean()) - self.least


class Agreement:
    """No objective: exchanges alone, from normal starting points, leaders by random losses. Excess: disagreement."""

    target, eta = 0.01, 0.0

    def __init__(self, n: int, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        self.start = torch.randn(n, DIMENSIONS, generator=self.generator)
        self.nothing = torch.zeros(n, DIMENSIONS)

    def draw(self, x):
        return torch.rand(len(x), generator=self.generator), self.nothing

    def excess(self, x):
        return disagreement(x)


PROBLEMS = {"agreement": Agreement, "quadratics": StackedQuadratics, "logistic": StackedLogistic}


def disagreement(x) -> float:
    """||(I - J) X||_F^2 / n."""
    return float((x - x.mean(dim=0)).square().sum() / len(x))


def step_on(x: torch.Tensor, algorithm: Algorithm, lr: float):
    """A function (k, gradients, losses) that takes step k of the method on the rows of ``x`` (n, d), in place."""
    network, state = LocalNetwork(algorithm.n), SimpleNamespace(x=x)
    local = LocalRule(x, range(algorithm.n), Settings(lr=lr), steps=1)

    def step(k, gradients, losses):
        advance(algorithm, algorithm.step(k), network, state, gradients, local, losses)

    return step


def one_run(algorithm: Algorithm, problem, k_max: int) -> dict:
    """Iterations to the target (NaN if censored), consensus distance over the last fifth, final share of the excess."""
    x = problem.start.clone()
    step = step_on(x, algorithm, problem.eta)
    first = problem.excess(x)
    reached, distances = math.nan, []
    for k in range(k_max):
        losses, gradients = problem.draw(x)
        step(k, gradients, losses)
        if math.isnan(reached) and problem.excess(x) <= problem.target * first:
            reached = k + 1
        if k >= k_max - k_max // 5:
            distances.append(disagreement(x))
        if problem.eta == 0 and not math.isnan(reached):
            break  # nothing happens after agreement but rounding
    consensus = float(np.mean(distances)) if distances else math.nan
    return {"iterations": reached, "consensus": consensus, "excess": problem.excess(x) / first}


def cost(algorithm: Algorithm, repeats: int) -> float:
    """Least seconds of one exchange of 32 parameters a worker, leaders included, without gradients.

    The least of the repeats, because whatever else the machine does only ever adds to it.
    """
    x, gradients = torch.randn(algorithm.n, DIMENSIONS), torch.zeros(algorithm.n, DIMENSIONS)
    losses, seconds, step = torch.rand(algorithm.n), [], step_on(x, algorithm, 0.0)
    for k in range(repeats + 3):
        started = time.perf_counter()
        step(k, gradients, losses)
        seconds.append(time.perf_counter() - started)
    return min(seconds[3:])


def tables(options) -> dict[str, pd.DataFrame]:
    rows, costs = [], []
    k_max = K_MAX[options.preset]
    for n in WORKERS[options.preset]:
        for name, graph in graphs(n).items():
            # A random graph above 1024 workers has no rho to compare with; a disconnected one cannot agree.
            if not graph.is_connected or (name.startswith("erdos") and n > 1024):
                continue
            rho = metropolis_rho(name, graph)
            for method in ("D-PSGD", "AL-DSGD on D-PSGD"):
                core = DPSGD(graph, weights="metropolis")
                algorithm = core if method == "D-PSGD" else ALDSGD(core)
                label = {"graph": name, "method": method, "n": n, "edges": len(graph.edges)}
                costs.append({**label, "entries": n + 2 * len(graph.edges),
                              "seconds": cost(algorithm, REPEATS[options.preset])})  # fmt: skip
                for problem, build in PROBLEMS.items():
                    for seed in options.seeds:
                        found = one_run(algorithm, build(n, seed), k_max)
                        rows.append({**label, "problem": problem, "seed": seed, "rho": rho, "k_max": k_max,
                                     "censored": math.isnan(found["iterations"]), **found})  # fmt: skip
        print(f"  n = {n}: done", flush=True)
    return {"scaling": pd.DataFrame(rows), "scaling_cost": pd.DataFrame(costs)}


def main(_session) -> None:
    run("theory_scaling", parser(__doc__, seeds=(0, 1, 2)), tables)


if __name__ == "__main__":
    command(main)
