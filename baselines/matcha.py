"""MATCHA (Wang et al. 2019, arXiv 1905.09435): matchings switched on at random, critical links more often.

Matching j of the graph is active at step t with probability p_j, independently; W_t = I - alpha sum_j B_j(t) L_j.
p maximises lambda_2(sum_j p_j L_j) under the budget, alpha minimises rho (``aldsgd.mixing``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from aldsgd.algorithm import Algorithm, as_graphs
from aldsgd.graphs import Rotation, Topology
from aldsgd.links import Pairs
from aldsgd.methods import Look, Method, Options, option
from aldsgd.mixing import matcha_weights
from aldsgd.step import Exchange, Gossip, Step
from aldsgd.streams import rng


class MATCHA(Algorithm):
    """MATCHA over one graph, or over a set of graphs in turn, each with its own probabilities.

    Args:
        graphs: a Topology, or several with the same number of workers. budget: c_b in (0, 1], the expected share
            of matchings that communicate. seed: of the activations; all workers share it.
        rotation: as for ``DPSGD``. weight_rule: "nonzero" or "released", for disconnected graphs.
        allow_disconnected: accept a graph (or a union of graphs) on which the workers cannot agree.

    Raises:
        ConfigError: a budget outside (0, 1], a graph too large to solve, or a disconnected graph.
    """

    def __init__(
        self,
        graphs: Topology | Sequence[Topology],
        budget=0.5,
        seed=0,
        rotation: Rotation | None = None,
        weight_rule="nonzero",
        allow_disconnected=False,
    ):
        self.graphs = as_graphs(graphs, allow_disconnected)
        self.n, self.rotation, self.seed = self.graphs[0].n, rotation or Rotation(len(self.graphs)), seed
        self.solutions = [matcha_weights(graph, budget, weight_rule) for graph in self.graphs]

    def step(self, t):
        index = self.rotation.at(t)
        solution, matchings = self.solutions[index], self.graphs[index].matchings
        coins = rng("coins", self.seed, t).random(len(matchings))
        drawn = zip(matchings, coins, solution.probabilities, strict=True)
        active = tuple(matching for matching, coin, p in drawn if coin < p)
        return Step(after=Exchange(Pairs(active), Gossip(solution.alpha)))

    def description(self):
        return {
            "alpha": [solution.alpha for solution in self.solutions],
            "probabilities": [list(solution.probabilities) for solution in self.solutions],
            "rho": [solution.rho for solution in self.solutions],
        }


@dataclass(frozen=True)
class Budget(Options):
    """Options of MATCHA."""

    budget: float = option(0.5, "MATCHA's communication budget c_b in (0, 1]")


METHOD = Method(
    "matcha",
    "MATCHA",
    lambda o, s: MATCHA(s.topologies, o.budget, s.seed, s.rotation, allow_disconnected=s.disconnected),
    Budget,
    Look("#009E73", "s", "--"),
    core=True,
    place=40,
)
