"""Every method by the label that tables and figures show, the fields that make it, and its look. Torch-free."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class Look(NamedTuple):
    """Colour, marker, line style and marker size (points) of a method in every figure."""

    color: str
    marker: str
    linestyle: str
    markersize: float = 4.5


class Variant(NamedTuple):
    """A method as comparisons name it: the fields of a run that make it, and its look."""

    changes: Mapping[str, Any]
    look: Look | None


def _leaders(core: str, **more) -> dict[str, Any]:
    return {"method": "aldsgd", "core": core, **more}


# Colours of Okabe and Ito, without their yellow, which white paper swallows. Baselines are broken lines.
VARIANTS = {
    "no exchange": Variant({"method": "single"}, Look("#888888", "X", ":", 5)),
    "D-PSGD (released schedule)": Variant({"method": "dpsgd_released"}, Look("#56B4E9", "v", "--")),
    "D-PSGD": Variant({"method": "dpsgd"}, Look("#0072B2", "o", "--")),
    "MATCHA": Variant({"method": "matcha"}, Look("#009E73", "s", "--")),
    "all-reduce": Variant({"method": "allreduce"}, Look("#000000", "P", "--", 5)),
    "AL-DSGD on released schedule": Variant(_leaders("dpsgd_released"), Look("#8C564B", "<", "-")),
    "AL-DSGD on D-PSGD": Variant(_leaders("dpsgd"), Look("#D55E00", "D", "-")),
    "AL-DSGD on MATCHA": Variant(_leaders("matcha"), Look("#CC79A7", "^", "-")),
    "AL-DSGD, three graphs": Variant(_leaders("dpsgd", graphs=3), Look("#E69F00", "*", "-", 7)),
    "AL-DSGD on MATCHA, three graphs": Variant(_leaders("matcha", graphs=3), Look("#7B3294", "h", "-", 5.5)),
    "AL-DSGD, printed order": Variant(_leaders("dpsgd", order="printed"), Look("#A6761D", "p", ":", 5.5)),
}
SPARE = ("#1B9E77", "#7570B3", "#E7298A", "#66A61E", "#A50F15", "#08519C", "#54278F", "#636363")
MARKERS = "o^sDvP*X<>hp"


def variant_of(record: Mapping) -> str:
    """The label of the most specific variant whose fields all hold in a recorded configuration, else the method's."""
    fitting = [
        (len(variant.changes), label)
        for label, variant in VARIANTS.items()
        if all(record.get(name) == value for name, value in variant.changes.items())
    ]
    return max(fitting)[1] if fitting else str(record.get("method"))


def method_fields(record: Mapping) -> set[str]:
    """Fields of a record that belong to its method: runs that agree on all others were made under one condition."""
    options = {"core", "budget", "weights", "c1", "c2", "p1", "p2", "order", "force_scale", "period", "candidates"}
    return {"method", "method_source", "graphs", "graph_order", "disconnected", *options}


def look(label: str) -> Look:
    """The fixed look of a method, or for a label without one a colour and marker that follow from its text."""
    if label in VARIANTS and VARIANTS[label].look is not None:
        return VARIANTS[label].look
    place = int(hashlib.sha256(label.encode()).hexdigest(), 16)
    return Look(SPARE[place % len(SPARE)], MARKERS[place // 8 % len(MARKERS)], "-.", 5)
