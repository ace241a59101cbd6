"""Asynchronous methods between real processes, one worker each: averaging in pairs, and a server, over gloo with tags.

Each process has two threads. One trains, and asks another process when a gradient is done; the other listens to whoever
asks. Who is asking itself cannot meet now: it says so to a process of a lower number, and lets one of a higher number
wait until its own answer is there. So numbers fall along every chain of processes that wait, it has an end, and no
graph can deadlock. What a process sends as a question is its model, which stays as it is
until the answer is there, so that averaging in pairs conserves the sum of all models. Who meets whom depends on the
machine: two runs with the same seed differ.
"""

import threading
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from aldsgd.algorithm import started
from aldsgd.clocks import uniform
from aldsgd.errors import ConfigError
from aldsgd.local import LocalRule
from aldsgd.rows import trainable
from aldsgd.training import Trainer
from aldsgd.world import World, in_words

QUESTION, ANSWER = 1, 2
#: What the last number of a message says: nothing else is in it, a row is, or there are no more questions.
EMPTY, ROW, END = 0.0, 1.0, 2.0
#: In place of an answer: it comes later.
LATER = object()


class Listener:
    """The thread of a process that answers the others.

    Args:
        world: the processes. like: a row (P,). answer: (rank, row) -> row (P,) to send back, None where there is none,
            LATER where ``reply`` will be called.

    Attributes:
        bytes: sent by this process, questions and answers.
    """

    def __init__(self, world: World, like: Tensor, answer: Callable[[int, Tensor], Tensor | None]):
        self.world, self.like, self.answer = world, like, answer
        self.bytes, self.error = 0, None
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def ask(self, rank: int, row: Tensor) -> Tensor | None:
        """The answer of another process to a row (P,); None where it has none now."""
        if self.error is not None:
            raise self.error
        with self.world.names(lambda: in_words([rank])):
            self._send(row, ROW, rank, QUESTION)
            return self._received(rank)

    def finish(self) -> None:
        """There are no more questions from here; wait until there are none from anywhere."""
        others = [rank for rank in range(self.world.size) if rank != self.world.rank]
        with self.world.names(self.world.silent):
            for rank in others:
                self._send(self.like, END, rank, QUESTION)
            self.thread.join(self.world.timeout)
            if self.error is not None:
                raise self.error
            if self.thread.is_alive():
                raise RuntimeError("timed out")

    def _listen(self) -> None:
        message, left = self.like.new_empty(len(self.like) + 1), self.world.size - 1
        try:
            while left:
                rank = dist.recv(message, tag=QUESTION)
                if message[-1] == END:
                    left -= 1
                    continue
                if (found := self.answer(rank, message[:-1])) is not LATER:
                    self.reply(rank, found)
        except RuntimeError as error:
            self.error = error

    def reply(self, rank: int, found: Tensor | None) -> None:
        """Answer another process with a row (P,), or that there is none."""
        self._send(self.like if found is None else found, EMPTY if found is None else ROW, rank, ANSWER)

    def _send(self, row: Tensor, kind: float, rank: int, tag: int) -> None:
        message = torch.cat([row, row.new_tensor([kind])])
        self.bytes += message.numel() * message.element_size()
        dist.send(message, rank, tag=tag)

    def _received(self, rank: int) -> Tensor | None:
        message = self.like.new_empty(len(self.like) + 1)
        dist.recv(message, rank, tag=ANSWER)
        return message[:-1] if message[-1] == ROW else None


class PeerTrainer(Trainer):
    """A run of an asynchronous method in real time; an epoch is K gradients of each worker, then all are tested.

    ``algorithm.meets``: "pairs", with ``near``, whom each worker may ask, or "server", whose model is the centre's. A
    server's momentum is not in checkpoints.

    Attributes: met, refused: how often this process asked, and was told that the other was asking itself.

    Raises ConfigError where there is not one process for each worker, on a CPU.
    """

    def __init__(self, algorithm, build, data, settings, loss=None, hosting=None):
        super().__init__(algorithm, build, data, settings, loss, hosting)
        if hosting is None or hosting.size != algorithm.n or self.workers.device.type != "cpu":
            raise ConfigError(
                f"real asynchrony takes one process for each of the {algorithm.n} workers, on CPUs; start it with "
                f"torchrun --nproc_per_node {algorithm.n}"
            )
        if getattr(algorithm, "meets", None) not in ("pairs", "server"):
            raise ConfigError(f"{type(algorithm).__name__} has no form between processes; leave out --real")
        sizes = [p.numel() for p in trainable(self.workers.modules[0])]
        self.state = started(algorithm, self.workers.rows.clone(), sizes)
        self.local = LocalRule(self.state.x[:1], self.workers.hosted, self.settings, self.steps)
        if algorithm.meets == "server":  # all begin at the centre
            dist.broadcast(self.state.x[0], 0)
        self.me, self.asking, self.lock = self.hosting.rank, False, threading.Lock()
        self.draw = uniform("random neighbour", self.settings.seed)
        self.met = self.refused = self.served = 0
        self.waiting: list[tuple[int, Tensor]] = []  # who asked while this process did, and with what
        self.server = algorithm.n - 1  # the last process has the centre
        if algorithm.meets == "server" and self.me == self.server:
            self.rule = LocalRule(self.state.x[1:], [0], self.settings, self.steps)

    def train_epoch(self, epoch, on_step=lambda step, losses: None):
        began, x, workers = time.perf_counter(), self.state.x[0], self.workers
        listener = Listener(self.hosting.world, x, self._answer)
        self.stepper.begin(self.batches.epoch(epoch, workers.hosted))
        total = 0.0
        for k in range(self.steps):
            self.hosting.step = t = epoch * self.steps + k
            with self.lock:
                workers.parameters[0].copy_(x)
            inputs, targets = self.stepper.fetch(self.stepper.plan, self.stepper.position)
            losses = workers.compute_gradients(inputs, targets, t)
            workers.gradients.add_(workers.parameters, alpha=self.local.decay)
            self.stepper.position.add_(1)
            total += losses.item()
            if not losses.item() < self.stepper.bound:
                self.note_divergence(t)
            (self._meet if self.algorithm.meets == "pairs" else self._serve)(listener, t)
            self.local.next()
            on_step(t, losses)
        listener.finish()
        self.hosting.wire_bytes += listener.bytes
        workers.parameters.copy_(self.state.x[:1])
        self.seconds_compute += time.perf_counter() - began
        return torch.tensor([total / self.steps], dtype=torch.float64)

    def _meet(self, listener: Listener, t: int) -> None:
        """Move, then average with a random neighbour, if it has time."""
        x, near = self.state.x[0], self.algorithm.near[self.me]
        with self.lock:
            self.local(self.workers.gradients)
            self.asking = True
        if near:
            answer = listener.ask(near[int(self.draw(self.me, t) * len(near))], x)
            self.met += 1
            self.refused += answer is None
            if answer is not None:
                x.copy_(answer)
        with self.lock:
            self.asking = False
            answers = [(rank, self._mean(row)) for rank, row in self.waiting]
            self.waiting.clear()
        for rank, mean in answers:
            listener.reply(rank, mean)

    def _serve(self, listener: Listener, t: int) -> None:
        """The gradient to the server, and its model back."""
        gradient = self.workers.gradients[0]
        answer = self._answer(self.me, gradient) if self.me == self.server else listener.ask(self.server, gradient)
        self.met += 1
        self.state.x[0].copy_(answer)

    def _answer(self, rank: int, row: Tensor) -> Tensor | None:
        with self.lock:
            if self.algorithm.meets == "pairs":
                if not self.asking:
                    return self._mean(row)
                if rank < self.me:
                    return None
                self.waiting.append((rank, row.clone()))
                return LATER
            while self.rule.taken < self.served // self.algorithm.n:
                self.rule.next()
            self.rule(row[None] / self.algorithm.n)
            self.served += 1
            return self.state.x[1].clone()

    def _mean(self, row: Tensor) -> Tensor:
        """The own model becomes the mean of it and ``row``, which is returned."""
        x = self.state.x[0]
        return x.copy_((x + row) / 2).clone()

    def resume(self, checkpoints):
        epoch, rows = super().resume(checkpoints)
        # An epoch ends when every gradient in it is answered. The next one takes the rule to its rate.
        self.served = epoch * self.steps * self.algorithm.n
        return epoch, rows

    def record(self, epoch, train_loss):
        rows, sent = super().record(epoch, train_loss), self.hosting.total_wire_bytes()
        if rows:
            rows[-1] |= {"logical_bytes": sent, "rounds": None}
        return rows
