"""What each rule of who leads adds to D-PSGD under every condition. python -m figures.who_leads"""

import sys
from functools import partial

from figures.common import script
from figures.judges import draw as draw_judges

draw = partial(draw_judges, name="who_leads", lowest=-10)

if __name__ == "__main__":
    sys.exit(script("who_leads", draw))
