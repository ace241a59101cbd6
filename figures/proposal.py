"""The repository's own rule of who leads on fresh seeds, less D-PSGD. python -m figures.proposal"""

import sys
from functools import partial

from figures.common import script
from figures.judges import draw as draw_judges

draw = partial(draw_judges, name="proposal", lowest=-10)

if __name__ == "__main__":
    sys.exit(script("proposal", draw))
