"""Accuracy over the learning rate, every rule of who leads. python -m figures.leader_rates"""

import sys
from functools import partial

from figures.common import script
from figures.own_rates import draw as draw_rates

draw = partial(draw_rates, name="leader_rates")

if __name__ == "__main__":
    sys.exit(script("leader_rates", draw))
