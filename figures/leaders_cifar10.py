"""Leaders of all and among neighbours on CIFAR-10, less D-PSGD. python -m figures.leaders_cifar10"""

import sys
from functools import partial

from figures.common import script
from figures.judges import draw as draw_judges

draw = partial(draw_judges, name="leaders_cifar10", lowest=-10)

if __name__ == "__main__":
    sys.exit(script("leaders_cifar10", draw))
