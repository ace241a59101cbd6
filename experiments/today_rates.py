"""Each method's own learning rate in preset cpu of the experiments on today's gossip, and CHOCO-SGD's gamma.

Of the grids of ``experiments.field_rates``: the best for the mean worker on held-out images, with a seed that no
experiment uses; a test compares them with those runs.
"""

#: Search -> what it chose.
CHOSEN: dict[str, dict[str, float]] = {}
