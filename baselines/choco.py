"""CHOCO-SGD (Koloskova et al. 2019, arXiv 1902.00340), in the order of its released code: gossip of compressed steps.

Around a gossip method whose W stays the same, with X+ what its local move makes of X:

    X <- X+ + gamma (S - X^),   Q = Q(X - X^),   X^ <- X^ + Q,   S <- S + W Q

X^ are the estimates that all who hear a worker have of it, S = W X^; only Q is sent. Both start at zero, so that the
first step does not mix. Without compression and with gamma = 1 it is D-PSGD, combine while adapting, from then on. The
mean moves as without gossip, whatever Q loses.
"""

from dataclasses import dataclass, replace

from aldsgd.algorithm import Algorithm
from aldsgd.errors import ConfigError
from aldsgd.methods import Method, Options, Setting, option
from aldsgd.step import Codec, Step
from aldsgd.wrapper import Wrapper

COMPRESSORS = ("topk", "randomk", "sign", "qsgd")


class CHOCO(Wrapper):
    """CHOCO-SGD around a gossip method.

    Args:
        core: adapt-then-combine gossip over the same links with the same weights at every step. codec: of
            ``aldsgd.codecs``, None for no compression. gamma: consensus step size, above 0. seed: of random codecs.
    """

    own = {"estimate": "row", "heard": "row", "q": "row", "taken": "number"}

    def __init__(self, core: Algorithm, codec: Codec | None, gamma=0.45, seed=0):
        if not gamma > 0:
            raise ConfigError(f"gamma = {gamma} must be above 0")
        self.codec, self.gamma, self.seed = codec, gamma, seed
        super().__init__(core)

    def around(self, step):
        if self._known:
            raise ConfigError(
                "links or weights of the core change from step to step, and CHOCO-SGD adds up over fixed ones; take "
                "one graph, without a schedule or random matchings"
            )
        return Step(after=replace(self.mixing(step), payload=("q",), codec=self.codec))

    def move(self, step, state, gradients, local):
        super().move(step, state, gradients, local)
        state.x.add_(state.heard - state.estimate, alpha=self.gamma)
        state.q.copy_(state.x - state.estimate)
        if self.codec is not None:
            self.compress(state.q, local.workers, state.taken.long())
        state.estimate.add_(state.q)
        state.taken.add_(1)

    def compress(self, rows, workers, taken):
        """Every row becomes what its codec makes of it."""
        from aldsgd.codecs import uniform

        for i, row in enumerate(rows):
            drawn = uniform(self.seed, workers[i : i + 1], taken[i], len(row)) if self.codec.random else None
            self.codec.compress_(row, drawn)

    def settle(self, step, state, local):
        state.heard.add_(state.q)
        super().settle(step, state, local)


@dataclass(frozen=True)
class ChocoOptions(Options):
    """Options of CHOCO-SGD; those of its core join them."""

    core: str = option("dpsgd", "gossip method that is compressed", "baselines.registry:CORES")
    compressor: str = option("topk", "what is sent of a difference", COMPRESSORS)
    share: float = option(0.1, "share of the entries that top-k and random-k send")
    bits: int = option(4, "bits of a level of qsgd, beside the sign")
    gamma: float = option(0.45, "consensus step size of CHOCO-SGD")

    def used(self):
        without = {"sign": ("share", "bits"), "qsgd": ("share",)}.get(self.compressor, ("bits",))
        return {name: value for name, value in super().used().items() if name not in without}


def _build(o: ChocoOptions, s: Setting) -> CHOCO:
    from aldsgd.codecs import QSGD, RandomSparse, Sign, Sparse

    if not (0 < o.share < 1 and 1 <= o.bits <= 8):
        raise ConfigError(f"share = {o.share} must be above 0 and below 1, and bits = {o.bits} from 1 to 8")
    made = {"topk": Sparse(o.share), "randomk": RandomSparse(o.share), "sign": Sign(), "qsgd": QSGD(o.bits)}
    return CHOCO(s.core(), made[o.compressor], o.gamma, s.seed)


METHOD = Method("choco", "CHOCO-SGD", _build, ChocoOptions, place=170)
