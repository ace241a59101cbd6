"""One thread per test process: the suite runs several processes at once, and starts more of its own."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
