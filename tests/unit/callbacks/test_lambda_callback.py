from __future__ import annotations

import pytest

from levin.callbacks import Callback, LambdaCallback
from levin.core.hooks import HOOKS


def test_functions_are_called_as_hooks(fit):
    seen = []
    callback = LambdaCallback(
        setup=lambda trainer, pl_module, stage: seen.append(stage),
        on_train_batch_end=lambda trainer, pl_module, outputs, batch, batch_idx: seen.append(batch_idx),
        on_fit_end=lambda *_: seen.append("end"),
        on_train_start=None,
    )
    fit(callback, max_epochs=1)
    assert [str(each) for each in seen] == ["fit", "0", "1", "2", "3", "end"]


@pytest.mark.parametrize("name", [spec.name for spec in HOOKS if spec.callbacks])
def test_each_hook_of_a_callback_can_be_given(name):
    function = print
    assert getattr(LambdaCallback(**{name: function}), name) is function
    assert hasattr(Callback, name)


@pytest.mark.parametrize("name", ["state_dict", "load_state_dict", "state_key", "training_step"])
def test_what_is_no_hook_is_refused(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        LambdaCallback(**{name: print})


def test_a_near_name_is_suggested():
    with pytest.raises(TypeError, match="Did you mean 'on_train_batch_end'"):
        LambdaCallback(on_train_batchend=print)
