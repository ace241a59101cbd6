"""A method around another, its core: the core's links and weights W_t, and what it remembers. torch is never imported.

AL-DSGD, momentum on gossip, local steps and compression are such methods.
"""

from collections.abc import Mapping

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError
from aldsgd.links import AllReduce
from aldsgd.step import Exchange, Step

#: Steps that are remembered; more are a schedule that never repeats.
MOST_STEPS = 4096


class Wrapper(Algorithm):
    """Override ``around``, and ``move`` and ``settle`` where the workers do not move as in the core.

    own: state beside that of the core. moves: whether workers move by a rule of the wrapper alone, so that the core
    must not have one.

    Raises ConfigError where the core is no method, or does not fit.
    """

    own: Mapping[str, str] = {}
    moves = False

    def __init__(self, core: Algorithm):
        name = type(self).__name__
        if not isinstance(core, Algorithm):
            raise ConfigError(f"the core is a {type(core).__name__}; wrap a gossip method, as in {name}(DPSGD(graph))")
        if self.moves and not core.plain or set(core.state) & set(self.own):
            raise ConfigError(f"{type(core).__name__} moves workers by a rule of its own, as {name} does; take another")
        self.core, self.n, self.centres = core, core.n, core.centres
        self.state = {**core.state, **self.own}
        self.tells_time = self.tells_time or core.tells_time
        self.coefficients = {**core.coefficients, **self.coefficients}
        if self.draw == "batch":
            self.draw, self.shared = core.draw, core.shared
        self._known: dict[Step, Step] = {}
        self.step(0)

    def step(self, t):
        return self.changed(self.core.step(t))

    def changed(self, step: Step) -> Step:
        """``around(step)``, the same object for equal steps."""
        if step not in self._known:
            if len(self._known) > MOST_STEPS:
                self._known.clear()
            self._known[step] = self.around(step)
        return self._known[step]

    def around(self, step: Step) -> Step:
        """What becomes of a step of the core."""
        return step

    def mixing(self, step: Step) -> Exchange:
        """The one exchange of a step of the core: links and weights W_t. Raises ConfigError where there is none."""
        if step.before or len(step.after) != 1 or step.losses or isinstance(step.after[0].links, AllReduce):
            raise ConfigError(
                f"the core does not mix once after the gradient step; {type(self).__name__} wraps adapt-then-combine "
                "gossip"
            )
        return step.after[0]

    def begin(self, state):
        self.core.begin(state)

    def observe(self, step, state):
        self.core.observe(step, state)

    def move(self, step, state, gradients, local):
        self.core.move(step, state, gradients, local)

    def settle(self, step, state, local):
        self.core.settle(step, state, local)

    def description(self):
        return self.core.description()


def by_row(lr, method: str):
    """The rate as it multiplies rows (w, P), for a rule that divides by it. Raises ConfigError where it is zero."""
    number = isinstance(lr, float)
    if lr <= 0 if number else not lr.is_cuda and bool((lr <= 0).any()):
        raise ConfigError(f"{method} divides by the learning rate, which is 0 here; give rates above 0")
    return lr if number else lr[:, None]
