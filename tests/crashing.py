"""A run that stops in the middle, as if its process had died, with the checkpoints that it had written."""

import pytest


class Crash(Exception):
    pass


def crash(trainer, folder, epoch: int, every: int = 1) -> None:
    """Run ``trainer`` until ``epoch`` (counted from 0) should begin."""

    def train(e, *rest, train=trainer.train_epoch):
        if e == epoch:
            raise Crash
        return train(e, *rest)

    trainer.train_epoch = train
    with pytest.raises(Crash):
        trainer.run(checkpoints=folder, checkpoint_every=every)
