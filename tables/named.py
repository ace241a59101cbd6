"""Every table by its name: those of experiments, and those across them."""

from pathlib import Path

from aldsgd.errors import ConfigError
from aldsgd.listings import names
from tables import claims
from tables.base import Table, methods
from tables.catalogue import catalogue
from tables.cost import cost
from tables.experiments import TABLES
from tables.flat import flat
from tables.policies import policies
from tables.primary import primary, then_and_now
from tables.promises import promises
from tables.refused import refused
from tables.soak import soak
from tables.today import leaders_today

#: Tables that are no experiment's.
ACROSS = {
    "claims": claims.overview, "primary": primary, "then_and_now": then_and_now, "methods": catalogue, "cost": cost,
    "flat": flat, "batchnorm": policies, "promises": promises, "leaders_today": leaders_today, "refused": refused,
    "soak": soak,
}  # fmt: skip


def table(name: str, root: Path | str = "results") -> Table:
    """The table of an experiment, or one across them. Raises ConfigError for an unknown one, or without its runs."""
    if name not in (known := dict.fromkeys((*ACROSS, *TABLES, *names(root)))):
        raise ConfigError(f"unknown table '{name}'; choose one of: {', '.join(known)}")
    return ACROSS[name](Path(root)) if name in ACROSS else TABLES.get(name, methods)(Path(root), name)
