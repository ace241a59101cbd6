"""What compressed gossip reaches, and what it sends. python -m figures.compression"""

import sys
from functools import partial

from figures.common import against_bytes, script

draw = partial(against_bytes, name="compression")

if __name__ == "__main__":
    sys.exit(script("compression", draw))
