"""The skeleton of asynchronous methods: what a worker does when its gradient is done, and when a message arrives.

Time is virtual (``aldsgd.events``); nobody waits unless the method says so. ``net`` is what a method sees of the world:
``net.x`` (n + c, P) the models, ``net.now`` the time in units of a gradient, ``net.loss`` (n,), ``net.count`` (n,)
gradients finished; ``net.compute(i)``, ``net.move(i, direction)``, ``net.post(...)``, ``net.mix(...)``. torch is never
imported.
"""

from typing import TYPE_CHECKING

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError
from aldsgd.links import AllReduce
from aldsgd.step import Exchange, Step

if TYPE_CHECKING:
    from torch import Tensor

    from aldsgd.events import Events
    from aldsgd.mailbox import Message


class Asynchronous(Algorithm):
    """One asynchronous method. Override ``finished``, and ``received`` where more happens than that a copy is kept.

    Attributes: as of ``Algorithm``; centres are servers. centre_moves: whether a centre has a local rule of its own.
    """

    centre_moves = False

    def start(self, i: int, net: "Events") -> None:
        """Worker i begins, or begins again with the model of another."""
        net.compute(i)

    def finished(self, i: int, gradient: "Tensor", net: "Events") -> None:
        """A gradient (P,) of worker i, taken at the model that it had at ``net.begun[i]``, is done."""
        raise NotImplementedError

    def received(self, i: int, message: "Message", net: "Events") -> None:
        """A message arrived at worker or centre i."""
        net.keep(i, message)

    def catch_up(self, net: "Events") -> None:
        """Bring the models up to now, at the end of an epoch, where they change between events too."""

    def helpers(self, i: int) -> tuple[int, ...]:
        """Whose model worker i takes when it comes back without one of its own, in order of preference."""
        return tuple(j for j in range(self.n) if j != i)


class Gossip(Asynchronous):
    """An asynchronous method on the links and weights W_t of a gossip method, its core, at each worker's own step t.

    Args:
        core: method with one exchange a step; whether before or after the move has no meaning here.

    Raises:
        ConfigError: the core is none, or has more to it than links and weights, which would be left out.
    """

    def __init__(self, core: Algorithm):
        if not core.plain:
            raise ConfigError(
                f"{type(core).__name__} moves workers by a rule of its own, and {type(self).__name__} would take of it "
                "links and weights alone; choose a core that is plain gossip, such as dpsgd or matcha"
            )
        self.core, self.n = core, core.n
        self._known: dict[Exchange, tuple] = {}
        self._last: tuple = (None, None)
        self.exchange(core.step(0))

    def table(self, t: int) -> tuple[list, list, list]:
        """(whom each worker hears, itself first; with which weights; who hears it, in the order of the rounds), n lists
        each."""
        step = self.core.step(t)
        if step is self._last[0]:  # found without hashing its links, which takes longer than all the rest
            return self._last[1]
        exchange = self.exchange(step)
        if exchange not in self._known:
            if len(self._known) > 4096:  # a schedule that never repeats
                self._known.clear()
            from aldsgd.neighbourhood import Neighbourhood  # with torch

            hood = Neighbourhood(self.n, exchange.links, range(self.n))
            rows, cols, weights = hood.row.tolist(), hood.col.tolist(), exchange.rule.rows(hood, None, 0.0).tolist()
            heard, weighed, hearers = ([[] for _ in range(self.n)] for _ in range(3))
            for i, j, weight in zip(rows, cols, weights, strict=True):
                heard[i].append(j)
                weighed[i].append(weight)
            for a, b in (arc for arcs in exchange.links.rounds for arc in arcs):
                hearers[a].append(b)
            self._known[exchange] = heard, weighed, hearers
        self._last = step, self._known[exchange]
        return self._last[1]

    def exchange(self, step: Step) -> Exchange:
        """The one exchange of a step of the core. Raises ConfigError where there is none."""
        if len(step.exchanges) != 1 or step.losses or isinstance(step.exchanges[0].links, AllReduce):
            raise ConfigError(f"the core does not mix once a step; {type(self).__name__} takes plain gossip")
        return step.exchanges[0]

    def helpers(self, i):
        near = self.table(0)[0][i][1:]
        return (*near, *(j for j in super().helpers(i) if j not in near))

    def description(self):
        return self.core.description()
