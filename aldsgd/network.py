"""Where workers live and how their models meet: here, all of them in one process.

``LocalNetwork`` is what an algorithm sees of the world; ``aldsgd.distributed.ProcessNetwork`` offers the same between
processes.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial, wraps

import torch
import torch.nn.functional as F
from torch import Tensor

from aldsgd import finite
from aldsgd.finite import finite_rows, mean_of_finite, to_itself
from aldsgd.links import Links
from aldsgd.neighbourhood import Neighbourhood
from aldsgd.step import Codec, Exchange

# Elements that one block of columns may hold: a block and its product stay in a core's cache, so that mixing
# moves each parameter through memory once, and needs no second copy of the models.
BLOCK = 2**19
# Elements from which on a product is worth handing out to threads.
LARGE = 2**24


def timed(method: Callable) -> Callable:
    """A method of a network whose real time counts as mixing."""

    @wraps(method)
    def measured(self, *arguments):
        started = time.perf_counter()
        result = method(self, *arguments)
        self.seconds += time.perf_counter() - started
        return result

    return measured


class LocalNetwork:
    """n virtual workers in this process; row i of the models is worker i, and rows of centres follow.

    Args:
        n: number of workers with data. device: where the models lie. centres: number of workers without data.

    Attributes:
        workers: ids of the hosted workers with data, all n here. hosted: the same with hosted centres. rank, size:
        number of this process, and of all. step: set by the training loop, named when an exchange fails. wire_bytes:
        sent to other processes so far. seconds: real time spent on exchanges. unsound: (w + centres,) int64, in how
        many exchanges a hosted row held a value that is not finite, which nobody took (``aldsgd.finite``).
    """

    rank, size = 0, 1
    step = wire_bytes = 0
    seconds = 0.0

    def __init__(self, n: int, device="cpu", centres: int = 0):
        self.n, self.centres, self.device = n, centres, torch.device(device)
        self.workers, self.hosted = range(n), range(n + centres)
        self.unsound = torch.zeros(n + centres, dtype=torch.int64, device=self.device)
        self.neighbourhood = lru_cache(maxsize=64)(self._tables)
        self._checked: set[Exchange] = set()

    def _tables(self, links: Links) -> Neighbourhood:
        """Tables of an exchange; schedules repeat, so those of recent steps are kept."""
        return Neighbourhood(self.n + self.centres, links, self.hosted, self.device)

    def check_once(self, exchange: Exchange, hood: Neighbourhood, rows: Tensor) -> None:
        """Raise ConfigError where the first coefficients that a rule gives for an exchange make no sense."""
        if exchange not in self._checked and len(self._checked) < 4096:  # else a schedule that never repeats
            hood.check(rows, exchange.stochastic)
            self._checked.add(exchange)

    @timed
    def exchange_losses(self, losses: Tensor, hood: Neighbourhood) -> Tensor:
        """Losses (w,) of the hosted workers with data to the candidates (E,) of each; a centre's is NaN."""
        return self._with_centres(losses)[hood.col]

    def _with_centres(self, losses: Tensor) -> Tensor:
        return torch.cat([losses, losses.new_full((self.centres,), torch.nan)]) if self.centres else losses

    def all_losses(self, losses: Tensor) -> Tensor:
        """Losses (w,) of the hosted workers as (n,) of all."""
        return losses

    def reported(self, losses: Tensor) -> Tensor:
        """Losses (w,) of the hosted workers as they tell them; those of faulty ones may be others."""
        return losses

    def judged(self, exchange: Exchange, hood: Neighbourhood, losses: Tensor | None) -> Tensor | None:
        """Losses (E,) by which leaders are chosen in an exchange; a defence may bar some."""
        return losses

    def heard(self, models: Tensor, hood: Neighbourhood) -> Sequence[Tensor]:
        """The model (P,) of each entry of a neighbourhood, before it is mixed; to be read, not to be kept."""
        return [models[worker] for worker in hood.col.tolist()]

    def forget(self) -> None:
        """Drop what was heard ahead and will not be mixed; here nothing is."""

    def sound(self, models: Tensor) -> Tensor:
        """(w,) bool, which of the first hosted rows are finite; the others are counted."""
        found = finite_rows(models)
        if finite.waits(models) or not found.all():
            self.unsound[: len(found)] += ~found
        return found

    def post(self, models: Tensor, hood: Neighbourhood) -> None:
        """Start sending ``models``, which stay as they are until ``mix``, so that the way overlaps the gradient."""

    @timed
    def mix(self, models: Tensor, rows: Tensor, hood: Neighbourhood, codec: Codec | None = None) -> None:
        """Multiply ``models`` (w, P) in place by the matrix that ``rows`` (E,) describes; here no row is ever
        packed."""
        mix_finite(models, hood, rows, self.sound(models))

    @timed
    def average(self, models: Tensor) -> None:
        """Every worker with data gets the mean of all n; rows of centres stay."""
        models = models[: len(self.workers)]
        sound = self.sound(models)
        if finite.waits(models) or not sound.all():
            mean_of_finite(models, sound, average_rows)
        else:
            average_rows(models)

    def mean_row(self, models: Tensor) -> Tensor:
        """Mean (P,) of all n models, in float64: exact where all are equal in float32."""
        return mean_row(models)

    def consensus_distance(self, models: Tensor, mean: Tensor) -> float:
        """||X - J X||_F^2 / n of the models (w, P) of workers with data about their ``mean`` (P,), summed in
        float64."""
        return square_distance(models, mean).item() / self.n

    def mean_of(self, groups: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Mean over all n workers of each tensor; a group holds the hosted workers' copies of one."""
        return [torch.stack(tuple(group)).mean(dim=0) for group in groups]

    def gather(self, values: Tensor) -> Tensor:
        """Values (w,) of the hosted workers as (n,) of all, on the CPU."""
        return values

    def total_wire_bytes(self) -> int:
        """``wire_bytes`` of all processes."""
        return self.wire_bytes

    def bring(self, worker: int, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors of ``worker`` on rank 0, wherever it lives. Elsewhere the result has no meaning.

        ``tensors``: those of ``worker`` where it is hosted, of the same shapes anywhere else.
        """
        return tensors

    def hand_out(self, worker: int, tensors: list[Tensor]) -> list[Tensor]:
        """The way back of ``bring``: from rank 0 to the process that hosts ``worker``."""
        return tensors

    def agree(self, number: int) -> int:
        """Rank 0's number, on every rank."""
        return number


def column_width(models: Tensor) -> int:
    """How many columns of ``models`` (w, P) fit a cache; all of them on a GPU."""
    return models.shape[1] if models.is_cuda else max(1, BLOCK // len(models))


def column_blocks(models: Tensor) -> Sequence[Tensor]:
    """Views of ``models`` (w, P) by blocks of columns."""
    return models.split(column_width(models), dim=1)


def in_blocks(models: Tensor, work: Callable[[Tensor], None]) -> None:
    """``work`` on every block of columns of ``models`` (w, P), in place.

    Large models on a CPU are cut in one range of columns a thread, and each thread works through its own with
    operations of one thread: when the threads share each operation instead, a block's product lies in one core's cache
    and is copied back by the other, which takes 2.5 times as long.
    """
    threads = torch.get_num_threads()
    if models.is_cuda or threads == 1 or models.numel() < LARGE:
        for block in column_blocks(models):
            work(block)
        return

    def walk(columns: Tensor) -> None:
        for block in column_blocks(columns):
            work(block)

    ranges = models.chunk(threads, dim=1)
    for done in [_threads(threads).submit(walk, columns) for columns in ranges]:
        done.result()


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    # The number of threads of an operation belongs to the thread that calls it.
    return ThreadPoolExecutor(count, initializer=partial(torch.set_num_threads, 1))


def average_rows(models: Tensor) -> None:
    """X <- J X in place: every row (P,) becomes the mean of all."""
    in_blocks(models, lambda block: block.copy_(block.mean(dim=0, keepdim=True).expand_as(block)))


def mix_finite(models: Tensor, table, rows: Tensor, sound: Tensor) -> None:
    """``mix_rows`` in which nobody hears the rows that are not ``sound`` (w,): NaN is what they become."""
    if not finite.waits(models) and bool(sound.all()):
        mix_rows(models, table, rows)
        return
    models.masked_fill_(~sound[:, None], 0.0)
    mix_rows(models, table, to_itself(rows, table, sound[table.col]))
    models.masked_fill_(~sound[:, None], torch.nan)


def mix_rows(models: Tensor, table, rows: Tensor) -> None:
    """X <- C X in place by whichever product is cheaper.

    ``table``: row, col (E,) and pointer (w + 1,) as in a ``Neighbourhood``; ``rows`` (E,): the entries of C (w, w).
    """
    if len(models) <= 16 or 4 * len(table.col) > len(models) ** 2:
        mix_dense(models, table, rows)
    else:
        mix_sparse(models, table, rows)


def mix_dense(models: Tensor, table, rows: Tensor) -> None:
    """X <- C X in place, C (w, w) written out from its row coefficients (E,)."""
    C = torch.zeros(len(models), len(models), dtype=torch.float64, device=models.device)
    C = C.index_put_((table.row, table.col), rows).to(models.dtype)
    in_blocks(models, lambda block: block.copy_(C @ block))


def mix_sparse(models: Tensor, table, rows: Tensor) -> None:
    """X <- C X in place at the cost of the edges: each row is a weighted sum of the rows it hears."""
    weights, starts = rows.to(models.dtype), table.pointer[:-1]

    def work(block: Tensor) -> None:
        heard = F.embedding_bag(table.col, block.contiguous(), starts, mode="sum", per_sample_weights=weights)
        block.copy_(heard)

    in_blocks(models, work)


def mean_row(models: Tensor) -> Tensor:
    """Mean (P,) of the rows, in float64."""
    return torch.cat([block.double().mean(dim=0) for block in column_blocks(models)])


def square_distance(models: Tensor, mean: Tensor) -> Tensor:
    """Sum over the rows of their squared distance from ``mean`` (P,), a float64 scalar tensor."""
    centres = mean.double().split(column_width(models))
    return sum(
        (block.double() - centre).square().sum() for block, centre in zip(column_blocks(models), centres, strict=True)
    )
