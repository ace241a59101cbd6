"""Decentralized parallel SGD, D-PSGD (Lian et al. 2017, arXiv 1705.09056): x_i <- sum_j W_ij (x_j - eta g_j).

``DPSGD`` is the method: all edges of the graph, at each iteration; as first published it combines while adapting,
x_i <- sum_j W_ij x_j - eta g_i, which is a form of it. ``ReleasedDPSGD`` is the baseline that the released
code of MATCHA and AL-DSGD runs under this name, which is another method: only one of the first two matchings at a
time, with the alpha of the whole graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from aldsgd.algorithm import Algorithm, as_graphs
from aldsgd.errors import ConfigError
from aldsgd.graphs import Rotation, Topology
from aldsgd.links import Pairs
from aldsgd.methods import Look, Method, Options, Setting, Variant, option
from aldsgd.mixing import check_gossip_matrix, equal_weight_alpha
from aldsgd.schedules import Schedule
from aldsgd.step import Exchange, Given, Gossip, Metropolis, Step

FORMS = ("adapt_then_combine", "combine_while_adapt")
WEIGHTS = ("equal", "metropolis")


class DPSGD(Algorithm):
    """D-PSGD over one graph, or over a set of graphs in turn.

    Args:
        graphs: a Topology, or several with the same number of workers, or a ``Schedule`` (``aldsgd.schedules``), which
            has weights of its own. rotation: which graph is used when; by default a uniform cycle over the global step.
        form: "adapt_then_combine" (step, then mix: released code) or "combine_while_adapt" (the original: the
            gradient is taken at the model before mixing).
        weights: "equal", W = I - alpha L with alpha = 2 / (lambda_2 + lambda_max), or "metropolis",
            W_ij = 1 / (1 + max(d_i, d_j)). matrix: a W of one's own, (n, n), on one graph, instead of ``weights``;
            symmetric, rows sum to one, zero between workers without an edge.
        alpha_rule: "nonzero" or "released", for disconnected graphs (``aldsgd.mixing``).
        allow_disconnected: accept a graph (or a union of graphs) on which the workers cannot agree.

    Raises:
        ConfigError: unknown option, graphs that do not fit each other, a disconnected graph, or a matrix that is no W.
    """

    def __init__(
        self,
        graphs: Topology | Sequence[Topology] | Schedule,
        rotation: Rotation | None = None,
        form="adapt_then_combine",
        weights="equal",
        alpha_rule="nonzero",
        allow_disconnected=False,
        matrix=None,
    ):
        for name, value, known in (("form", form, FORMS), ("weights", weights, WEIGHTS)):
            if value not in known:
                raise ConfigError(f"unknown {name} '{value}'; choose one of: {', '.join(known)}")
        self.first, self.alphas, self.schedule = form == "combine_while_adapt", [], None
        if isinstance(graphs, Schedule):
            if weights != "equal" or matrix is not None or rotation is not None:
                raise ConfigError(f"{graphs.name} has weights and an order of its own; give none")
            self.graphs, self.n, self.schedule = (), graphs.n, graphs
            return
        self.graphs = as_graphs(graphs, allow_disconnected)
        self.n, self.rotation = self.graphs[0].n, rotation or Rotation(len(self.graphs))
        if matrix is not None:
            check_gossip_matrix(matrix)
            if len(self.graphs) > 1:
                raise ConfigError(f"one matrix for {len(self.graphs)} graphs; give a single graph")
            rules = [Given(tuple(tuple(map(float, row)) for row in matrix))]
        elif weights == "metropolis":
            rules = [Metropolis()] * len(self.graphs)
        else:
            self.alphas = [equal_weight_alpha(graph.laplacian, alpha_rule) for graph in self.graphs]
            rules = [Gossip(alpha) for alpha in self.alphas]
        exchanges = [Exchange(Pairs(g.matchings), rule) for g, rule in zip(self.graphs, rules, strict=True)]
        self.steps = [self.around(exchange) for exchange in exchanges]

    def around(self, exchange: Exchange) -> Step:
        """The step with this exchange."""
        return Step(before=exchange) if self.first else Step(after=exchange)

    def step(self, t):
        return self.around(self.schedule.at(t)) if self.schedule else self.steps[self.rotation.at(t)]

    def description(self):
        return {"alpha": self.alphas} if self.alphas else {}


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

        self.steps = [
            [Step(after=Exchange(Pairs((matching,)), Gossip(alpha))) for matching in graph.matchings[:2]]
            for graph, alpha in zip(self.graphs, self.alphas, strict=True)
        ]

    def step(self, t):
        first = 0 if len(self.graphs) == 1 else 1
        return self.steps[self.rotation.at(t)][(self.rotation.uses_before(t) + first) % 2]

    def description(self):
        return {"alpha": self.alphas}


@dataclass(frozen=True)
class Weights(Options):
    """Options of D-PSGD."""

    weights: str = option("equal", "gossip weights", WEIGHTS)


def gossip(o: Weights, s: Setting, form="adapt_then_combine") -> DPSGD:
    """D-PSGD as a run describes it: what other methods take W_t from."""
    if s.schedule is None:
        return DPSGD(s.topologies, s.rotation, form, o.weights, allow_disconnected=s.disconnected)
    if o.weights != type(o)().weights:
        raise ConfigError(f"graph {s.graph} has weights of its own; leave out --weights")
    return DPSGD(s.schedule, form=form)


METHOD = Method(
    "dpsgd",
    "D-PSGD",
    gossip,
    Weights,
    core=True,
    place=30,
    variants={
        "D-PSGD": Variant({"method": "dpsgd"}, Look("#0072B2", "o", "--")),
        "D-PSGD, three graphs": Variant({"method": "dpsgd", "graphs": 3}, Look("#08519C", "8", "--"), standard=False),
        "D-PSGD, Metropolis": Variant(
            {"method": "dpsgd", "weights": "metropolis"}, Look("#6BAED6", (5, 0, 180), "--", 6), standard=False
        ),
    },
)
CWA = Method(
    "dpsgd_cwa", "D-PSGD, combine while adapting", lambda o, s: gossip(o, s, "combine_while_adapt"), Weights, place=35
)
RELEASED = Method(
    "dpsgd_released",
    "D-PSGD (released schedule)",
    lambda options, setting: ReleasedDPSGD(setting.topologies, setting.rotation),
    look=Look("#56B4E9", "v", "--"),
    core=True,
    place=20,
)
