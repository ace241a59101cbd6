"""Leaders of all and among neighbours under every condition, less D-PSGD. python -m figures.leaders"""

import sys
from functools import partial

from figures.common import script
from figures.judges import draw as draw_judges

draw = partial(draw_judges, name="leaders", lowest=-10)

if __name__ == "__main__":
    sys.exit(script("leaders", draw))
