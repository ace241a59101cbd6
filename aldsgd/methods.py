"""What a method is called, how it looks, which options it has, and how it is built; described without torch.

A method's file ends in one ``Method``; ``baselines.registry`` finds it, and with it the method is on the command line,
in tables and in figures.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple

from aldsgd import schedules
from aldsgd.errors import ConfigError, brief
from aldsgd.graphs import Rotation, Topology, parse_set


class Look(NamedTuple):
    """Colour, marker, line style and marker size (points) of a method in every figure.

    marker: matplotlib's letter, or (corners, 0 for a polygon or 1 for a star, angle).
    """

    color: str
    marker: str | tuple[int, int, int]
    linestyle: str
    markersize: float = 4.5


class Variant(NamedTuple):
    """A method as comparisons name it: the fields of a run that make it, and its look (None: one of its own).

    standard: whether it is among those that every comparison of all methods trains.
    """

    changes: Mapping[str, Any]
    look: Look | None
    standard: bool = True


def option(default, help: str, choices: tuple[str, ...] | str | None = None, recorded=True, more=False):
    """A field with the sentence that ``--help`` prints for it.

    choices: its values, or "module:NAME" where they stand. more: they are not all that it can have. recorded: False for
    a field that was added after runs had been recorded: at its default it is left out of the record, so that keys stay.
    """
    return field(default=default, metadata={"help": help, "choices": choices, "recorded": recorded, "more": more})


def choices_of(metadata: Mapping) -> tuple[str, ...] | None:
    """The values that an option can have, None for any."""
    choices = metadata.get("choices")
    if not isinstance(choices, str):
        return choices
    module, name = choices.split(":")
    return tuple(getattr(import_module(module), name))


@dataclass(frozen=True)
class Options:
    """Options of a method; derive from it, each field an ``option``."""

    def used(self) -> dict[str, Any]:
        """The options that have an effect, by name; the others are None in a record."""
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """What a method is built on: the workers, their graphs, the seed, the steps, and the method that it may wrap; rate:
    makes step -> learning rate as a share of the one that is named."""

    workers: int
    seed: int
    steps_per_epoch: int
    graph: str | None = None
    graphs: int = 1
    graph_order: str = "uniform"
    disconnected: bool = False
    epochs: int = 1
    core: Callable[[], Any] | None = None
    rate: Callable[[], Callable[[int], float]] | None = None

    @cached_property
    def topologies(self) -> tuple[Topology, ...]:
        """The graphs used in turn. Raises ConfigError where there is none of that name or size."""
        if self.schedule is not None:
            raise ConfigError(
                f"graph {brief(self.graph)} is a schedule with weights of its own, which this method does not take; "
                "use dpsgd, or a method on it"
            )
        return parse_set(self.graph, self.graphs, self.workers)

    @cached_property
    def schedule(self) -> schedules.Schedule | None:
        """The schedule that the graph's name stands for, if it does. Raises ConfigError where it makes no sense."""
        found = schedules.parse(self.graph, self.workers, self.seed)
        if found is not None and self.graphs > 1:
            raise ConfigError(f"graph {brief(self.graph)} is a schedule already; leave out --graphs")
        return found

    @property
    def rotation(self) -> Rotation:
        """Which of the graphs is used at which step."""
        return Rotation(len(self.topologies), self.graph_order, self.steps_per_epoch)


@dataclass(frozen=True)
class Method:
    """A method's entry.

    name: on the command line and in records. label: in tables and figures. build: (options, setting) -> Algorithm.
    options: an ``Options`` class. look: None for a colour of its own. variants: label -> Variant, where comparisons
    name more than one. graph: whether it uses the communication graph. core: whether AL-DSGD can wrap it.
    inner: whether local steps and the like can (whatever is a core, too). asynchronous: whether it runs in virtual
    time only. place: methods are listed in ascending order of it.
    """

    name: str
    label: str
    build: Callable[[Any, Setting], Any]
    options: type[Options] = Options
    look: Look | None = None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    graph: bool = True
    core: bool = False
    inner: bool = False
    asynchronous: bool = False
    place: int = 100

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Every option's default, by name."""
        return {f.name: f.default for f in fields(self.options)}

    def named(self) -> dict[str, Variant]:
        """Its variants, or the one that is the method itself."""
        return dict(self.variants) or {self.label: Variant({"method": self.name}, self.look, self.look is not None)}


def from_class(name: str, own: type) -> Method:
    """The entry of a user's class: its own ``METHOD``, or one made from what its constructor takes.

    A constructor's first argument is the number of workers where it is called n, else the graphs; the others are
    options and need defaults. Raises ConfigError where one has none, and for what is no class.
    """
    if isinstance(entry := getattr(own, "METHOD", None), Method):
        return entry
    try:
        first, *rest = inspect.signature(own if isinstance(own, type) else None).parameters.values()
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is no class of a method; its first argument is n or the graphs") from None
    for parameter in rest:
        if parameter.default is parameter.empty:
            raise ConfigError(
                f"{name}: its argument {parameter.name} has no default; give it one, so that it is an option"
            )
    made = {
        p.name: option(p.default, f"{p.name} of {own.__name__}") for p in rest if p.name not in ("seed", "rotation")
    }
    annotations = {key: type(value.default) if value.default is not None else str for key, value in made.items()}
    options = dataclass(frozen=True)(type("Options", (Options,), {**made, "__annotations__": annotations}))
    given = {p.name for p in rest}

    def build(chosen: Options, setting: Setting):
        known = {"seed": setting.seed} if "seed" in given else {}
        if "rotation" in given:
            known["rotation"] = setting.rotation
        return own(setting.workers if first.name == "n" else setting.topologies, **asdict(chosen), **known)

    from aldsgd.asynchronous import Asynchronous

    asynchronous = issubclass(own, Asynchronous)
    return Method(name, own.__name__, build, options, graph=first.name != "n", asynchronous=asynchronous)
