"""When a fit ends: epochs, steps, time, a wish to stop; and what a second fit does."""

from __future__ import annotations

import logging
import math
from datetime import timedelta

import pytest
import torch

import levin as L
from levin.utils.errors import MisconfigurationException, PossibleUserWarning


@pytest.fixture
def fit(quiet, noting, batches):
    """``fit(**Trainer's arguments)`` trains on epochs of four batches; ``val=n`` adds a validation of n."""

    def run(*callbacks, val=0, train=4, **kwargs):
        trainer = quiet(callbacks=list(callbacks), limit_val_batches=val, **kwargs)
        trainer.fit(noting, batches(train), batches(2) if val else None)
        return trainer

    return run


class StopIn(L.Callback):
    """Ask for a stop in one hook, the first time that it comes after ``after`` steps."""

    def __init__(self, hook, after=0):
        def ask(trainer, *_, **__):
            if trainer.global_step >= after:
                trainer.should_stop = True

        setattr(type(self), hook, staticmethod(ask))

    def __init_subclass__(cls):
        raise TypeError


def stop_in(hook, after=0):
    def ask(self, trainer, *_, **__):
        if trainer.global_step >= after:
            trainer.should_stop = True

    return type("Stopper", (L.Callback,), {hook: ask})()
