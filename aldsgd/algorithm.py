"""The skeleton that every method shares: one iteration is ``X <- C_t (B_t X - eta G)``.

X holds the n workers' parameters as rows. A method says which edges are active at step t (a pure function of
t, so nothing about the graph is ever negotiated) and gives the coefficients of the rows of B_t and C_t for the
workers at hand. It never knows where those workers live: in one process or in several.
"""

from collections.abc import Hashable, Sequence

from torch import Tensor

from aldsgd.errors import ConfigError
from aldsgd.graphs import Matching, Topology
from aldsgd.neighbourhood import Neighbourhood

#: Returned in place of row coefficients: every worker gets the mean of all (the matrix J).
AVERAGE = "average"

Rows = Tensor | str | None


class Algorithm:
    """One method. Override ``matchings`` and at least one of ``before`` (B_t) and ``after`` (C_t).

    ``before`` and ``after`` return row coefficients over the entries of the neighbourhood, ``AVERAGE`` for the
    matrix J, or None for the identity. Each that is not the identity costs one exchange of models.
    """

    n: int
    #: Whether B_t differs from the identity although no loss is asked for: its exchange can overlap the gradient.
    mixes_first = False

    def matchings(self, t: int) -> Sequence[Matching]:
        """Active matchings at step t; the links of one matching run side by side, matchings one after another."""
        return ()

    def needs_loss(self, t: int) -> bool:
        """Whether the mini-batch losses are sent ahead at step t (4 bytes an edge and direction)."""
        return False

    def kind(self, t: int) -> Hashable | None:
        """What tells steps apart: those of equal kind have the same matchings and rows, given equal losses and rates.

        A GPU captures the update once for each kind and replays it. None where that is not known: never captured.
        """
        return None

    def before(self, t: int, hood: Neighbourhood, lr: float | Tensor) -> Rows:
        """Rows of B_t, applied to the models before the gradient step; ``lr`` is a scalar or (w,)."""
        return None

    def after(self, t: int, hood: Neighbourhood) -> Rows:
        """Rows of C_t, applied to the models after the gradient step."""
        return None

    def description(self) -> dict:
        """What a record should keep of the weights that were worked out (JSON-able)."""
        return {}


def kind_of(algorithm: Algorithm, t: int) -> Hashable | None:
    """``algorithm.kind(t)``, or None where a class derived from the one that defines it changes edges or rows."""
    order = type(algorithm).__mro__

    def place(name: str) -> int:
        return next(i for i, owner in enumerate(order) if name in owner.__dict__)

    if any(place(name) < place("kind") for name in ("matchings", "needs_loss", "before", "after")):
        return None
    return algorithm.kind(t)


def iterate(algorithm: Algorithm, t: int, network, parameters: Tensor, gradients: Tensor, lr, losses: Tensor):
    """One iteration in place: ``X <- C_t (B_t X - eta G)``.

    Args:
        network: where the workers live, and how models pass between them (``aldsgd.network``).
        parameters, gradients: (w, P), rows of the hosted workers. lr: scalar or (w,). losses: (w,).
    """
    hood = network.neighbourhood(algorithm.matchings(t))
    hood.loss = network.exchange_losses(losses, hood) if algorithm.needs_loss(t) else None
    network.mix(parameters, algorithm.before(t, hood, lr), hood)
    if isinstance(lr, Tensor):
        parameters.addcmul_(gradients, lr[:, None], value=-1)
    else:
        parameters.add_(gradients, alpha=-lr)
    network.mix(parameters, algorithm.after(t, hood), hood)


def as_graphs(graphs: Topology | Sequence[Topology], allow_disconnected: bool = False) -> tuple[Topology, ...]:
    """One topology or a rotating set as a tuple, validated.

    Raises ConfigError if the set is empty, sizes differ, or a single static graph is disconnected (a rotating
    set is checked as the union of its graphs) unless ``allow_disconnected``.
    """
    graphs = (graphs,) if isinstance(graphs, Topology) else tuple(graphs)
    if not graphs:
        raise ConfigError("no communication graph given; pass a Topology or a sequence of them")
    if len({graph.n for graph in graphs}) > 1:
        sizes = ", ".join(str(graph.n) for graph in graphs)
        raise ConfigError(f"the graphs of one rotating set must have the same number of workers, not {sizes}")
    if not allow_disconnected:
        union = {tuple(sorted(edge)) for graph in graphs for edge in graph.edges}
        (graphs[0] if len(graphs) == 1 else Topology.from_edges(graphs[0].n, sorted(union))).require_connected()
    return graphs
