"""What rare, late and single exchanges reach, and what they send. python -m figures.local_steps"""

import sys
from functools import partial

from figures.common import against_bytes, script

draw = partial(against_bytes, name="local_steps")

if __name__ == "__main__":
    sys.exit(script("local_steps", draw))
