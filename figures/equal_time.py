"""The repository's own rule of who leads, less D-PSGD with twice the epochs. python -m figures.equal_time"""

import sys
from functools import partial

from figures.common import script
from figures.judges import draw as draw_judges

draw = partial(draw_judges, name="equal_time", lowest=-10)

if __name__ == "__main__":
    sys.exit(script("equal_time", draw))
