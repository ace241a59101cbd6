"""Decentralized parallel SGD, D-PSGD (Lian et al. 2017, arXiv 1705.09056): x_i <- sum_j W_ij x_j - eta g_i.

``DPSGD`` is the method: all edges of the graph, at each iteration. ``ReleasedDPSGD`` is the baseline that the released
code of MATCHA and AL-DSGD runs under this name, which is another method: only one of the first two matchings at a
time, with the alpha of the whole graph.
"""

from collections.abc import Sequence

from aldsgd.algorithm import Algorithm, as_graphs
from aldsgd.errors import ConfigError
from aldsgd.graphs import Rotation, Topology
from aldsgd.mixing import equal_weight_alpha

FORMS = ("adapt_then_combine", "combine_while_adapt")
WEIGHTS = ("equal", "metropolis")


class DPSGD(Algorithm):
    """D-PSGD over one graph, or over a set of graphs in turn.

    Args:
        graphs: a Topology, or several with the same number of workers. rotation: which graph is used when; by
            default a uniform cycle over the global step.
        form: "adapt_then_combine" (step, then mix: released code) or "combine_while_adapt" (the original: the
            gradient is taken at the model before mixing).
        weights: "equal", W = I - alpha L with alpha = 2 / (lambda_2 + lambda_max), or "metropolis",
            W_ij = 1 / (1 + max(d_i, d_j)).
        alpha_rule: "nonzero" or "released", for disconnected graphs (``aldsgd.mixing``).
        allow_disconnected: accept a graph (or a union of graphs) on which the workers cannot agree.

    Raises:
        ConfigError: unknown option, graphs that do not fit each other, or a disconnected graph.
    """

    def __init__(
        self,
        graphs: Topology | Sequence[Topology],
        rotation: Rotation | None = None,
        form="adapt_then_combine",
        weights="equal",
        alpha_rule="nonzero",
        allow_disconnected=False,
    ):
        self.graphs = as_graphs(graphs, allow_disconnected)
        self.n, self.rotation = self.graphs[0].n, rotation or Rotation(len(self.graphs))
        for name, value, known in (("form", form, FORMS), ("weights", weights, WEIGHTS)):
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'; choose one of: {', '.join(known)}")
        self.mixes_first, self.weights = form == "combine_while_adapt", weights
        if weights == "equal":
            self.alphas = [equal_weight_alpha(graph.laplacian, alpha_rule) for graph in self.graphs]

    def matchings(self, t):
        return self.graphs[self.rotation.at(t)].matchings

    def kind(self, t):
        return self.rotation.at(t)

    def gossip_rows(self, t, hood):
        """Rows of W_t."""
        if self.weights == "metropolis":
            return hood.gossip(1 / (1 + hood.degree.maximum(hood.own_degree)))
        return hood.gossip(self.alphas[self.rotation.at(t)])

    def before(self, t, hood, lr):
        return self.gossip_rows(t, hood) if self.mixes_first else None

    def after(self, t, hood):
        return None if self.mixes_first else self.gossip_rows(t, hood)

    def description(self):
        return {} if self.weights == "metropolis" else {"alpha": self.alphas}


class ReleasedDPSGD(Algorithm):
    """The "D-PSGD" of the released code: matching 0 and matching 1 in turn, alpha of the whole graph, all others idle.

    Args:
        graphs: one Topology: its first two matchings alternate, 0 first. Several: they rotate (the released code
            forces this), each with its own count of uses, starting with matching 1.
        rotation: as for ``DPSGD``.

    The schedule can cut workers off (workers 0 and 4 on the paper's 100 % graph A); that is the point of keeping it.
    """

    def __init__(self, graphs: Topology | Sequence[Topology], rotation: Rotation | None = None, alpha_rule="nonzero"):
        self.graphs = as_graphs(graphs, allow_disconnected=True)
        self.n, self.rotation = self.graphs[0].n, rotation or Rotation(len(self.graphs))
        if any(len(graph.matchings) < 2 for graph in self.graphs):
            raise ConfigError("the released two-matching schedule needs a graph with at least two matchings")
        self.alphas = [equal_weight_alpha(graph.laplacian, alpha_rule) for graph in self.graphs]

    def matchings(self, t):
        first = 0 if len(self.graphs) == 1 else 1
        graph = self.graphs[self.rotation.at(t)]
        return (graph.matchings[(self.rotation.uses_before(t) + first) % 2],)

    def kind(self, t):
        return self.rotation.at(t), self.matchings(t)

    def after(self, t, hood):
        return hood.gossip(self.alphas[self.rotation.at(t)])

    def description(self):
        return {"alpha": self.alphas}
