"""One plotting script per figure, each run as ``python -m figures.<name>``, and the figures they wrote."""
