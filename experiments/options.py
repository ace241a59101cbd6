"""What scripts understand on the command line: how to run, and the fields of a run. Importing it loads no torch."""

import argparse
import os
import sys
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

from aldsgd.cache import cache_dir
from aldsgd.errors import ConfigError
from aldsgd.links import LINKS
from aldsgd.listings import PRESETS
from aldsgd.matchings import is_number
from aldsgd.methods import choices_of, option
from baselines import registry
from experiments.configuration import DEFAULTS, RunConfig, option_names

TIMEOUT = 300.0
#: Where runs of one's own are kept, beside the committed ones.
OWN = "my_results"


@dataclass(frozen=True)
class Execution:
    """How runs are executed, which does not change their numbers beyond rounding."""

    device: str = option("cpu", "where to train: cpu, cuda, cuda:1, ...; under torchrun cuda is one GPU per process")
    data: str | None = option(None, "folder of the data sets (default: $ALDSGD_DATA, else data); digits needs none")
    download: bool = option(False, "let torchvision download a data set that is missing")
    results: str | None = option(None, "where runs are kept")
    threads: int | None = option(None, "CPU threads (default: torch's choice)")
    timeout: float = option(TIMEOUT, "under torchrun: seconds after which a process that does not answer ends the job")
    checkpoint_every: int = option(10, "epochs between checkpoints, from which a run that was cut off goes on; 0: none")
    time_limit: float | None = option(
        None,
        "stop at a checkpoint before so many seconds are over; the same command goes on from there, and the exit code "
        "is 3 (under torchrun 0) as long as something is left",
    )
    save_models: str | None = option(None, "folder in which the models of each run that is trained are kept")
    tensorboard: str | None = option(None, "folder for TensorBoard, which has to be installed; one folder below a run")
    engine: str = option(
        "auto", "how the workers of a process run, which changes rounding alone", "aldsgd.engines:ENGINES"
    )
    deterministic: bool = option(
        False,
        "on a GPU: the same bits each time, also after going on from a checkpoint, but slower; a CPU always gives them",
    )
    jobs: int = option(1, "processes, each with a run of its own at a time")
    quiet: bool = option(False, "no bars, and no line for each tested epoch")

    def check(self) -> None:
        """Raise ConfigError for an option that makes no sense, without loading torch."""
        for name in ("data", "results", "save_models", "tensorboard"):
            if getattr(self, name) == "":
                raise ConfigError(f"--{name.replace('_', '-')} is empty; name a folder, or leave it out")
        for name in ("threads", "jobs"):
            if getattr(self, name) is not None and not 1 <= getattr(self, name) <= 4096:
                raise ConfigError(f"--{name} {getattr(self, name)} must be 1 or more, and at most 4096")
        if self.time_limit is not None and not (0 < self.time_limit < float("inf") and self.checkpoint_every):
            raise ConfigError("--time-limit needs a positive number of seconds, and checkpoints to stop at")
        if self.time_limit is not None and self.jobs > 1:
            raise ConfigError("--time-limit stops one run at a time: leave --jobs out")
        if self.jobs > 1 and launched() > 1:
            raise ConfigError(f"--jobs has no effect on {launched()} processes that a launcher started: leave it out")
        if self.tensorboard and find_spec("tensorboard") is None:
            raise ConfigError("--tensorboard needs TensorBoard; python -m pip install tensorboard")
        if self.checkpoint_every < 0:
            raise ConfigError(f"--checkpoint-every {self.checkpoint_every} must be a number of epochs, or 0 for never")
        if not 0 < self.timeout <= 1e6:
            raise ConfigError(f"--timeout {self.timeout:g} must be a number of seconds above zero, up to 1000000")


def launched() -> int:
    """How many processes a launcher such as torchrun says that it started; 1 without one, or where it says no number,
    which is refused once they meet."""
    text = os.environ.get("WORLD_SIZE", "1")
    return int(text) if is_number(text) else 1


class Parser(argparse.ArgumentParser):
    """Options in kebab-case, written out; the older spelling with underscores is still read. Bad use is one line and
    exit code 2."""

    def __init__(self, **settings):
        super().__init__(**settings, allow_abbrev=False)

    def parse_args(self, args=None, namespace=None):
        given = sys.argv[1:] if args is None else args
        spelled = (word.partition("=") for word in given)
        given = [
            (name.replace("_", "-") if name.startswith("--") else name) + equals + value
            for name, equals, value in spelled
        ]
        return super().parse_args(given, namespace)

    def format_help(self):
        for action in self._actions:
            # Only now: choices may stand in modules that load torch.
            if described := getattr(action, "field", None):
                action.help = escaped(describe(described))
        return super().format_help()

    def error(self, message):
        raise ConfigError(f"{' '.join(message.split())}; --help lists the options")


def parser(
    doc: str, seeds: Sequence[int] | None, preset: str | None = "cpu", jobs: bool = False, folder: str = "results"
) -> Parser:
    """The options that every experiment script understands; its text is the head of the script.

    preset: the default one, None for a script without. folder: where runs are kept by default (``execution``).
    """
    p = Parser(description=doc.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    if preset:
        p.add_argument("--preset", choices=PRESETS, default=preset,
                       help="smoke: seconds, to see that it runs; cpu: scaled down to two CPU cores; mid: all of "
                            "CIFAR-10, CPU hours; paper: the paper's settings, for a GPU "
                            f"(default: {preset})")  # fmt: skip
    shown = "the experiment's own" if seeds is None else " ".join(map(str, seeds))
    p.add_argument("--seeds", type=int, nargs="+", default=seeds, metavar="SEED",
                   help=f"one run of every configuration per seed (default: {shown})")  # fmt: skip
    p.add_argument("--link", choices=LINKS, default=None,
                   help="link between workers that the modelled clock assumes (default: 10gbe, or the experiment's "
                        "own)")  # fmt: skip
    where = f"{folder}; preset smoke: a cache folder" if preset else folder
    p.add_argument("--results", metavar="DIR", help=f"where runs are kept (default: {where})")
    add_fields(p, Execution, skip=("results",) if jobs else ("results", "jobs"))
    return p


def execution(options: argparse.Namespace, folder: str | None = None) -> Execution:
    """How the command line says to run, with results in ``folder`` where it names none; None: where its preset has
    them. Raises ConfigError for what is wrong, seeds included."""
    found = Execution(**read_fields(options, Execution))
    found.check()
    for seed in options.seeds or ():
        if not 0 <= seed < 2**32:
            raise ConfigError(f"--seeds {seed} must not be negative, and below 2^32")
    if len(set(options.seeds or ())) < len(options.seeds or ()):
        raise ConfigError(f"--seeds {' '.join(map(str, options.seeds))} holds a seed twice; name each once")
    if folder is None:  # smoke runs would take the place of real ones in the lists of the experiments
        folder = str(cache_dir() / "smoke") if options.preset == "smoke" else "results"
    return found if found.results else replace(found, results=folder)


def positive(text: str) -> int:
    """A count of something, as a type of argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more, and at most 4096")
    return int(text)


def add_fields(p: argparse.ArgumentParser, described: type, skip: Sequence[str] = ()) -> None:
    """One option for each field of a dataclass of ``option``s."""
    hints = get_type_hints(described)
    for f in fields(described):
        if f.name not in skip and "help" in f.metadata:
            add_option(p, f, hints[f.name])


def add_option(p: argparse.ArgumentParser, f: Field, hint) -> None:
    """The option of one field."""
    name = f"--{f.name.replace('_', '-')}"
    if hint is bool:
        action = argparse.BooleanOptionalAction if f.default else "store_true"
        p.add_argument(name, action=action, default=None, help=escaped(f.metadata["help"]))
    else:
        many = {"nargs": "+"} if tuple in kinds(hint) else {}
        p.add_argument(name, metavar=f.name.upper(), **many).field = f


def shared(found: Sequence[Field]) -> Field:
    """One field for an option that several methods have: all that it means, and its default where it is one."""
    first = found[0]
    helps = list(dict.fromkeys(f.metadata["help"] for f in found))
    if len(helps) == 1 and len({repr(f.default) for f in found}) == 1:
        return first
    own = "" if len({repr(f.default) for f in found}) == 1 else " (default: the method's own)"
    joined = option(first.default, "; or ".join(helps) + own, first.metadata["choices"], more=True)
    joined.name = first.name
    return joined


def kinds(hint) -> list[type]:
    """The plain types of a hint: int | None -> [int, NoneType]; tuple[float, ...] -> [tuple]."""
    parts = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return [getattr(part, "__origin__", part) for part in parts]


def escaped(text: str) -> str:
    """Help texts are format strings to argparse."""
    return text.replace("%", "%%")


def describe(f: Field) -> str:
    """The help of one field: what it is, its choices and its default."""
    choices = choices_of(f.metadata)
    default = "none" if f.default in (None, ()) or f.default is MISSING else f.default
    said = "" if "(default" in f.metadata["help"] else f" (default: {default})"
    return f.metadata["help"] + (f": {', '.join(choices)}" if choices else "") + said


def read_fields(options: argparse.Namespace, described: type) -> dict:
    """The fields that were given on the command line, as their types. Raises ConfigError naming the option."""
    hints, found = get_type_hints(described), {}
    for f in fields(described):
        given = getattr(options, f.name, None)
        if given is None or "help" not in f.metadata:
            continue
        value = given if isinstance(given, bool) else value_of(f, hints[f.name], given)
        choices = choices_of(f.metadata)
        for one in value if choices and isinstance(value, tuple) else (value,):
            if choices and not f.metadata["more"] and one is not None and one not in choices:
                raise ConfigError(f"unknown {f.name} '{one}'; choose one of: {', '.join(choices)}")
        found[f.name] = value
    return found


def value_of(f: Field, hint, given):
    """What was typed for one field, as its type. Raises ConfigError naming the option."""
    known = kinds(hint)
    try:
        if f.name == "lr_drops":
            return tuple((int(epoch), finite(factor)) for epoch, factor in (drop.split(":") for drop in given))
        if hint == tuple[str, ...]:
            return tuple(given)
        if hint == tuple[int, ...]:
            return tuple(finite(number, int) for number in given)
        if tuple in known:
            numbers = tuple(map(finite, given))
            return numbers[0] if len(numbers) == 1 and float in known else numbers
        if given == "none" and type(None) in known:
            return None
        kind = next(kind for kind in known if kind is not type(None))
        return given if kind is str else finite(given, kind)
    except (ValueError, OverflowError):
        shown = given if isinstance(given, str) else " ".join(given)
        raise ConfigError(f"--{f.name.replace('_', '-')} {shown} cannot be read; it is: {describe(f)}") from None


def finite(text: str, kind: type = float):
    """A number. Raises ValueError where it is none, or too large to be meant."""
    value = kind(text)
    if not abs(value) < 2**53:
        raise ValueError
    return value


def run_parser(doc: str, argv: Sequence[str] | None = None) -> Parser:
    """``parser`` with an option for each field of a run, and for each of every method's, a user's own included."""
    p = parser(doc, (0,), preset=None, jobs=True, folder=OWN)
    group = p.add_argument_group("the run")
    add_fields(group, RunConfig, skip=("seed",))
    given = sys.argv[1:] if argv is None else argv
    own = [word.partition("=")[2] or after for word, after in zip(given, [*given, ""][1:], strict=True)
           if word.partition("=")[0] == "--method"]  # fmt: skip
    entries = [*(registry.method(name) for name in own if ":" in name), *registry.METHODS.values()]
    methods, named = p.add_argument_group("options of the methods"), {}
    for entry in entries:
        hints = get_type_hints(entry.options)
        for f in fields(entry.options):
            if "help" in f.metadata:
                named.setdefault(f.name, []).append((entry, f, hints[f.name]))
    for found in named.values():
        entry, _, hint = found[0]
        try:
            add_option(methods, shared([f for _, f, kind in found if kind == hint]), hint)
        except argparse.ArgumentError as error:
            raise ConfigError(f"{entry.name} has an option by the name of another ({error}); rename it") from None
    return p


def configuration(options: argparse.Namespace) -> RunConfig:
    """The configuration that the options describe. Raises ConfigError for an option that has no effect on it."""
    found = read_fields(options, RunConfig)
    if options.data and ":" in options.data and not Path(options.data).exists():
        if "dataset" in found:
            raise ConfigError(f"--data {options.data} is a data set; leave out --dataset {found['dataset']}")
        found["dataset"], options.data = options.data, None
    if options.link and {"latency", "bandwidth"} & set(found):
        raise ConfigError("--link stands for a latency and a bandwidth; give it or them")
    config = RunConfig(**found)
    depth = 0
    while depth < len(config.parts):  # what a method wraps is known once its own options are
        config = config.but(**read_fields(options, config.parts[depth][0].options))
        depth += 1
    used, having = {}, {}
    for entry, chosen in config.parts:
        used = used | chosen.used()
        having |= {name: getattr(chosen, name) == default for name, default in entry.defaults.items()}
    for name in option_names(config.method):
        if getattr(options, name, None) is not None and used.get(name) is None and not having.get(name):
            raise ConfigError(
                f"--{name.replace('_', '-')} has no effect with the other options; leave it out"
                if name in having
                else f"--{name.replace('_', '-')} is no option of method {config.method}; it has: "
                f"{', '.join(sorted(having)) or 'none'}"
            )
    for name, needs in config.unused.items():
        if found.get(name, DEFAULTS[name]) != DEFAULTS[name]:
            raise ConfigError(f"--{name.replace('_', '-')} has no effect without {needs}")
    return config
