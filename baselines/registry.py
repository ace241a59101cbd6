"""Every method by name: those of this folder, AL-DSGD, and a user's own as "module:Class". torch is never imported."""

import hashlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path

import baselines
from aldsgd.errors import ConfigError
from aldsgd.methods import Look, Method, Variant, from_class


def _found() -> dict[str, Method]:
    modules = [f"baselines.{module.name}" for module in pkgutil.iter_modules(baselines.__path__)] + ["aldsgd.leaders"]
    entries = [
        entry
        for name in modules
        if name != __name__
        for entry in vars(import_module(name)).values()
        if isinstance(entry, Method)
    ]
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: (entry.place, entry.name))}


METHODS: dict[str, Method] = _found()
#: Names of the methods that AL-DSGD can wrap.
CORES: tuple[str, ...] = tuple(name for name, entry in METHODS.items() if entry.core)
#: Names of the methods that local steps and the like can wrap.
INNER: tuple[str, ...] = tuple(name for name, entry in METHODS.items() if entry.core or entry.inner)
#: Label -> variant of every method, in the order in which tables and legends show them.
VARIANTS: dict[str, Variant] = {}
for _entry in METHODS.values():
    VARIANTS |= _entry.named()
# Colours for methods without one of their own, apart from those of Okabe and Ito that the others have.
SPARE = ("#1B9E77", "#7570B3", "#E7298A", "#66A61E", "#A50F15", "#08519C", "#54278F", "#636363")
MARKERS = "o^sDvP*X<>hp"
# Folders of code that is not the user's.
OURS = ("aldsgd", "baselines", "experiments", "importlib")


def method(name: str) -> Method:
    """The method of this name. Raises ConfigError where there is none, or "module:Class" cannot be loaded."""
    if name in METHODS:
        return METHODS[name]
    if ":" in str(name):
        return _own(name)
    raise ConfigError(f"unknown method '{name}'; choose one of: {', '.join(METHODS)}, or your own as module:Class")


@cache
def _own(name: str) -> Method:
    found = imported(name)
    entry = found if isinstance(found, Method) else from_class(name, found)
    for label, variant in entry.named().items():
        VARIANTS.setdefault(label, variant._replace(standard=False))
    return entry


def imported(name: str):
    """The object "module:NAME" stands for; modules of the working directory are found. Raises ConfigError."""
    module, _, attribute = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with of_the_user(f"{name} cannot be loaded"):
        return getattr(import_module(module), attribute)


@contextmanager
def of_the_user(what: str):
    """Turn what a user's own code raises into a ConfigError that says ``what``, and where it was raised."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        places = [f"; {frame.filename}, line {frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
                  if Path(frame.filename).parent.name not in OURS and not frame.filename.startswith("<")]  # fmt: skip
        raise ConfigError(f"{what} ({type(error).__name__}: {error}{places[-1] if places else ''})") from error


def source_hash(name: str) -> str:
    """SHA-256, shortened, of the file in which the object "module:NAME" stands: part of the key of its runs."""
    imported(name)
    with of_the_user(f"{name} has no source file, which would be part of the key of its runs"):
        file = inspect.getfile(sys.modules[name.partition(":")[0]])
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def _recorded(record: Mapping) -> Method | None:
    """The method of a recorded configuration; None where a user's own is not there any more, or broken."""
    try:
        return method(record.get("method"))
    except Exception:  # a table of what is recorded does not depend on a file that may have changed since
        return None


def variant_of(record: Mapping) -> str:
    """The label of the most specific variant whose fields all hold in a recorded configuration, else the method's own;
    behind it what makes other variants and holds as well, on whichever core: "AL-DSGD, three graphs, second draw"."""
    own, core = _recorded(record), METHODS.get(record.get("core"))

    def holding(*apart: str) -> list[str]:
        """Labels of the variants whose fields, but for those ``apart``, all hold; the most specific first."""
        held = [
            (len(variant.changes), label)
            for label, variant in VARIANTS.items()
            if all(record.get(name) == value for name, value in variant.changes.items() if name not in apart)
        ]
        return [label for _, label in sorted(held, reverse=True)]

    if fitting := holding():
        found, told = fitting[0], dict(VARIANTS[fitting[0]].changes)
    else:
        found, told = own.label if own else str(record.get("method")), {}
        found += f" on {core.label}" if own and core else ""
    for label in holding("core"):
        made = {name: value for name, value in VARIANTS[label].changes.items() if name not in ("method", "core")}
        if not made.items() <= told.items():
            found, told = f"{found}, {label.partition(', ')[2] or label}", told | made
    return found


def method_fields(record: Mapping) -> set[str]:
    """Fields of a record that belong to its method: runs that agree on all others were made under one condition."""
    known = {"method", "method_source", "graphs", "graph_order", "disconnected", "virtual"}
    for entry in (*METHODS.values(), _recorded(record)):
        known |= set(entry.defaults) if entry else set()
    return known


def look(label: str) -> Look:
    """The fixed look of a method, or for a label without one a colour and marker that follow from its text."""
    if label in VARIANTS and VARIANTS[label].look is not None:
        return VARIANTS[label].look
    place = int(hashlib.sha256(label.encode()).hexdigest(), 16)
    return Look(SPARE[place % len(SPARE)], MARKERS[place // 8 % len(MARKERS)], "-.", 5)
