"""The skeleton that every method shares: each worker moves by its local rule, and rows meet before and after.

X holds the workers' models as rows. One iteration of a method without state of its own is ``X <- C_t (B_t X - eta D)``,
where D is the direction of the local rule, for plain SGD the gradient. A method says, as a ``Step``, over which links
rows meet and with which coefficients, a pure function of t, so nothing about the graph is ever negotiated. It never
knows where the workers live: in one process or in several. torch is never imported.
"""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

from aldsgd.errors import ConfigError
from aldsgd.graphs import Topology
from aldsgd.links import AllReduce
from aldsgd.step import ALONE, DRAWS, Exchange, Step

if TYPE_CHECKING:
    from torch import Tensor

#: Shapes of the tensors that a method may declare for each worker, besides so many numbers: a row of X, one number, or
#: one number for each tensor of the model.
SHAPES = ("row", "number", "tensors")
#: What a state holds besides what a method declares.
GIVEN = ("x", "sizes", "losses", *DRAWS)


class Algorithm:
    """One method. Override ``step``; ``move`` and ``settle`` where it remembers something.

    Class or instance attributes:
        n: number of workers with data. centres: further workers without data, numbered n, n + 1, ..., whose rows come
        last in X: they are never trained, nor counted among the workers, and have records of their own. state: name ->
        shape of each tensor that it keeps beside X, for w hosted rows: "row" (w, P), "number" (w, 1), "tensors" (w, T)
        for the T tensors of the model, or a count k (w, k). They start as zeros, lie where the workers live, may travel
        as a payload, and are in every checkpoint.
    """

    n: int
    centres = 0
    state: Mapping[str, str | int] = {}
    #: Coefficients by name that can make a run diverge where they are above one.
    coefficients: Mapping[str, float] = {}
    #: By which of ``aldsgd.step.DRAWS`` some of its steps judge. shared: samples that all workers share for that.
    draw, shared = "batch", 0
    #: Whether ``step`` reads from t how far the run has come, so that t can be no other count.
    tells_time = False

    @property
    def plain(self) -> bool:
        """Whether workers move by the local rule along their gradients, and nothing but models is kept."""
        own = type(self)
        return not self.state and own.move is Algorithm.move and own.settle is Algorithm.settle

    def step(self, t: int) -> Step:
        """What is exchanged at step t."""
        return ALONE

    def begin(self, state: SimpleNamespace) -> None:
        """Give the tensors of ``state`` (``x`` and those declared) other initial values, in place."""

    def observe(self, step: Step, state: SimpleNamespace) -> None:
        """Take note of ``state.losses`` before anything is exchanged."""

    def move(self, step: Step, state: SimpleNamespace, gradients: "Tensor", local) -> None:
        """Move every worker that acts, in place: by default the local rule along its gradient.

        gradients: (w, P), with weight decay, of the hosted workers with data, whose rows of ``state.x`` come first.
        local: the local rule (``aldsgd.local.LocalRule``): ``local(direction)`` moves along (w, P), ``local.lr`` is the
        rate, ``local.acting`` the positions of those that act, None for all. ``state.losses`` (w,) are the losses of
        the mini-batches, ``state.sizes`` the sizes of the model's tensors, in the order of a row.
        """
        local(gradients)

    def settle(self, step: Step, state: SimpleNamespace, local) -> None:
        """What is left to do after the last exchange."""

    def description(self) -> dict:
        """What a record should keep of the weights that were worked out (JSON-able)."""
        return {}


def started(algorithm: Algorithm, rows: "Tensor", sizes: Sequence[int]) -> SimpleNamespace:
    """The state at the first step: ``x``, which is ``rows`` (w + c, P), and what the method declares beside it.

    sizes: of the tensors of the model, P in all.
    """
    widths = {"row": rows.shape[1], "number": 1, "tensors": len(sizes)}
    state = SimpleNamespace(x=rows, sizes=tuple(sizes))
    for name, shape in algorithm.state.items():
        setattr(state, name, rows.new_zeros(len(rows), widths.get(shape, shape)))
    algorithm.begin(state)
    return state


class Heard:
    """What decides who leads in one step, as its exchanges need it: losses, or other scores; each is sent once.

    Args: as of ``advance``.
    """

    def __init__(self, network, step: Step, state: SimpleNamespace, second: "Tensor | None" = None, on_next=None):
        self.network, self.mode, self.judge, self.state, self.second = network, step.losses, step.judge, state, second
        self.on_next, self._sent = on_next, {}

    @property
    def losses(self) -> "Tensor":
        """(w,) of the hosted workers with data."""
        losses = self.state.losses
        if isinstance(self.judge, tuple):
            return losses.new_tensor([self.judge[worker] for worker in self.network.workers])
        if self.judge in DRAWS:
            return self.network.reported(losses if self.judge == "batch" else self.second)
        return self.network.reported(getattr(self.state, self.judge)[: len(losses), 0])

    def by(self, hood) -> "Tensor | None":
        """(E,) for a neighbourhood, None where the step sends none."""
        if self.mode is None:
            return None
        if self.mode == "all":
            return self.everyone()[hood.col.clamp(max=len(self.everyone()) - 1)]
        if id(hood) not in self._sent:
            if self.judge == "receiver":
                self._sent[id(hood)] = self.on_next(hood.row.tolist(), self.network.heard(self.state.x, hood))
            else:
                self._sent[id(hood)] = self.network.exchange_losses(self.losses, hood)
        return self._sent[id(hood)]

    def everyone(self) -> "Tensor":
        """(n,) of all workers with data."""
        if "all" not in self._sent:
            self._sent["all"] = self.network.all_losses(self.losses)
        return self._sent["all"]


def advance(
    algorithm: Algorithm,
    step: Step,
    network,
    state: SimpleNamespace,
    gradients: "Tensor",
    local,
    losses: "Tensor",
    second: "Tensor | None" = None,
    on_next: "Callable[[Sequence[int], Sequence[Tensor]], Tensor] | None" = None,
):
    """One iteration in place.

    Args:
        step: ``algorithm.step(t)``. network: where the workers live, and how rows pass between them
        (``aldsgd.network``). state: ``x`` (w + c, P), the models of the hosted workers and centres, and the method's
        own tensors. gradients: (w, P). local: the local rule. losses: (w,), of the mini-batches. second: (w,), of the
        second ones or the shared samples, where the step judges by them. on_next: (positions of hosted workers, models
        (P,)) -> losses (E,) of each model on the worker's next mini-batch, where receivers judge.
    """
    state.losses = losses
    algorithm.observe(step, state)
    heard = Heard(network, step, state, second, on_next)
    for exchange in step.before:
        meet(exchange, network, state, heard, local.lr)
    algorithm.move(step, state, gradients, local)
    for exchange in step.after:
        meet(exchange, network, state, heard, local.lr)
    algorithm.settle(step, state, local)


def meet(exchange: Exchange, network, state: SimpleNamespace, heard: Heard, lr) -> None:
    """Multiply each tensor of the payload by the matrix that the exchange describes, in place."""
    tensors = [getattr(state, name) for name in exchange.payload]
    if isinstance(exchange.links, AllReduce):
        for tensor in tensors:
            network.average(tensor)
        return
    links = exchange.links if exchange.fixed else exchange.links.led_by(heard.everyone().tolist())
    hood = network.neighbourhood(links)
    rows = exchange.rule.rows(hood, network.judged(exchange, hood, heard.by(hood)), lr)
    network.check_once(exchange, hood, rows)
    for tensor in tensors:
        network.mix(tensor, rows, hood, exchange.codec)


def as_graphs(graphs: Topology | Sequence[Topology], allow_disconnected: bool = False) -> tuple[Topology, ...]:
    """One topology or a rotating set as a tuple, validated.

    Raises ConfigError if the set is empty or holds something else, sizes differ, or a single static graph is
    disconnected (a rotating set is checked as the union of its graphs) unless ``allow_disconnected``.
    """
    if isinstance(graphs, Topology):
        graphs = (graphs,)
    if not (isinstance(graphs, Sequence) and all(isinstance(graph, Topology) for graph in graphs)):
        raise ConfigError(
            f"a graph is given as {type(graphs).__name__}, not as a Topology or several of them; "
            "make one with Topology.from_networkx or Topology.from_edges"
        )
    graphs = tuple(graphs)
    if not graphs:
        raise ConfigError("no communication graph given; pass a Topology or a sequence of them")
    if len({graph.n for graph in graphs}) > 1:
        sizes = ", ".join(str(graph.n) for graph in graphs)
        raise ConfigError(f"the graphs of one rotating set must have the same number of workers, not {sizes}")
    if not allow_disconnected:
        union = {tuple(sorted(edge)) for graph in graphs for edge in graph.edges}
        # Whether they are connected does not depend on matchings, so that the union needs no colouring.
        whole = Topology(graphs[0].n, tuple((edge,) for edge in sorted(union)))
        (graphs[0] if len(graphs) == 1 else whole).require_connected()
    return graphs


def checked(algorithm: Algorithm) -> Algorithm:
    """``algorithm`` where it can be trained. Raises ConfigError where it is no method, or says too little of itself."""
    if not isinstance(algorithm, Algorithm):
        raise ConfigError(
            f"{type(algorithm).__name__} is no method; pass an instance of an aldsgd.Algorithm, such as DPSGD(graph)"
        )
    n = getattr(algorithm, "n", None)
    if not (isinstance(n, int) and n >= 1):
        raise ConfigError(f"{type(algorithm).__name__} has n = {n!r} workers; set self.n to a whole number, 1 or more")
    for name, shape in algorithm.state.items():
        counted = isinstance(shape, int) and not isinstance(shape, bool) and shape >= 1
        if not (counted or shape in SHAPES) or name in GIVEN:
            raise ConfigError(
                f"the state {name!r} of {type(algorithm).__name__} is {shape!r}; declare 'row', 'number', 'tensors' or "
                f"a count under a name other than {', '.join(GIVEN)}"
            )
    step = algorithm.step(0)
    if not isinstance(step, Step):
        raise ConfigError(f"{type(algorithm).__name__}.step gave {type(step).__name__}; return an aldsgd.Step")
    if isinstance(step.judge, str) and step.judge not in DRAWS and algorithm.state.get(step.judge) != "number":
        raise ConfigError(
            f"{type(algorithm).__name__} judges by {step.judge!r}, which is no 'number' of its state; declare it, or "
            f"judge by {' or '.join(DRAWS)}"
        )
    for exchange in step.exchanges:
        exchange.links.check(n + (0 if isinstance(exchange.links, AllReduce) else algorithm.centres))
        for name in set(exchange.payload) - {"x", *algorithm.state}:
            raise ConfigError(
                f"an exchange of {type(algorithm).__name__} sends {name!r}, which its state does not declare"
            )
    return algorithm
