"""D2 (Tang et al. 2018, arXiv 1803.07068): D-PSGD with the variance between workers' data taken out.

    X_1 = W (X_0 - eta G_0),   X <- W (2 X - X_old - eta (G - G_old))

kept in the form that a change of the rate does not harm (relaysgd): U = -eta G, X' = W (X + U + C), C <- X' - X - U.
It diverges where the smallest eigenvalue of W is -1/3 or less, as that of equal weights is on every graph of the
AL-DSGD paper (-0.78 to -0.92). Such a W is refused; Metropolis weights are the default, and
``baselines.exact_diffusion`` is D2 on (I + W)/2. Its proofs are for one fixed, symmetric W.
"""

from dataclasses import dataclass

import numpy as np

from aldsgd.errors import ConfigError
from aldsgd.methods import Method, option
from aldsgd.step import Exchange
from aldsgd.wrapper import Wrapper
from baselines.dpsgd import WEIGHTS, Weights, gossip

#: Eigenvalues are worked out to rounding.
LOWEST = -1 / 3 + 1e-9


class D2(Wrapper):
    """D2 on a gossip method. Raises ConfigError for a W that is not symmetric, or with eigenvalues down to -1/3."""

    own, moves = {"c": "row"}, True

    def around(self, step):
        W = matrix_of(self.mixing(step), self.n)
        if not np.allclose(W, W.T, rtol=0, atol=1e-9):
            raise ConfigError("D2 needs a symmetric W; use undirected links")
        if (least := np.linalg.eigvalsh(W)[0]) <= LOWEST:
            raise ConfigError(
                f"the smallest eigenvalue of W is {least:.3f}, and D2 diverges at -1/3 and below; use metropolis "
                "weights, or exact diffusion, which takes (I + W)/2"
            )
        return step

    def move(self, step, state, gradients, local):
        local(gradients)
        corrected = state.x + state.c
        state.c.copy_(state.x)
        state.x.copy_(corrected)

    def settle(self, step, state, local):
        state.c.neg_().add_(state.x)


def matrix_of(exchange: Exchange, n: int) -> np.ndarray:
    """The matrix (n, n) of an exchange whose weights do not depend on losses or rates."""
    from aldsgd.neighbourhood import Neighbourhood

    hood = Neighbourhood(n, exchange.links, range(n))
    W = np.zeros((n, n))
    W[hood.row.numpy(), hood.col.numpy()] = exchange.rule.rows(hood, None, 0.0).numpy()
    return W


@dataclass(frozen=True)
class D2Options(Weights):
    """Options of D2."""

    weights: str = option("metropolis", "gossip weights", WEIGHTS)


METHOD = Method("d2", "D2", lambda o, s: D2(gossip(o, s)), D2Options, place=130)
