"""MATCHA (Wang et al. 2019, arXiv 1905.09435): matchings switched on at random, critical links more often.

Matching j of the graph is active at step t with probability p_j, independently; W_t = I - alpha sum_j B_j(t) L_j.
p maximises lambda_2(sum_j p_j L_j) under the budget, alpha minimises rho (``aldsgd.mixing``).
"""

from collections.abc import Sequence

import numpy as np

from aldsgd.algorithm import Algorithm, as_graphs
from aldsgd.graphs import Rotation, Topology
from aldsgd.mixing import matcha_weights


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

    def matchings(self, t):
        index = self.rotation.at(t)
        coins = np.random.default_rng([self.seed, t]).random(len(self.graphs[index].matchings))
        return tuple(
            matching
            for matching, coin, p in zip(
                self.graphs[index].matchings, coins, self.solutions[index].probabilities, strict=True
            )
            if coin < p
        )

    def kind(self, t):
        return self.rotation.at(t), self.matchings(t)

    def after(self, t, hood):
        return hood.gossip(self.solutions[self.rotation.at(t)].alpha)

    def description(self):
        return {
            "alpha": [solution.alpha for solution in self.solutions],
            "probabilities": [list(solution.probabilities) for solution in self.solutions],
            "rho": [solution.rho for solution in self.solutions],
        }
