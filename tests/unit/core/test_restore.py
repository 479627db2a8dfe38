from __future__ import annotations

import inspect
from argparse import Namespace
from enum import Enum
from pathlib import Path

import pytest
import torch
from torch import nn

from levin.core.datamodule import LightningDataModule
from levin.core.module import LightningModule
from levin.core.restore import (
    convert,
    load_hparams_from_tags_csv,
    load_hparams_from_yaml,
    save_hparams_to_tags_csv,
    save_hparams_to_yaml,
    update_hparams,
)


class Model(LightningModule):
    def __init__(self, width=2, bias=True):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(width, 1, bias=bias)


class Data(LightningDataModule):
    def __init__(self, batch_size, shuffle=False):
        super().__init__()
        self.save_hyperparameters()
        self.loaded = None

    def load_state_dict(self, state_dict):
        self.loaded = state_dict


@pytest.fixture
def save(tmp_path):
    """Write the checkpoint of an owner of hyper-parameters, with these entries over its own."""

    def write(owner, **entries) -> Path:
        weights = owner.state_dict() if isinstance(owner, nn.Module) else {}
        checkpoint = {"state_dict": weights, **owner.hyper_parameters_for_checkpoint(), **entries}
        torch.save(
            {key: value for key, value in checkpoint.items() if value is not None}, tmp_path / "a.ckpt"
        )
        return tmp_path / "a.ckpt"

    return write


# -------------------------------------------------------------------------------------------- building


def test_a_module_comes_back_with_its_arguments_and_weights(save):
    saved = Model(width=3, bias=False)
    model = Model.load_from_checkpoint(save(saved))
    assert model.hparams == {"width": 3, "bias": False}
    assert torch.equal(model.layer.weight, saved.layer.weight)
    assert model.training
    assert type(model) is Model


def test_paths_urls_and_open_files_are_read(save):
    path = save(Model(3))
    with open(path, "rb") as file:
        for source in (path, str(path), f"file://{path}", file):
            assert Model.load_from_checkpoint(source).hparams.width == 3


def test_keyword_arguments_replace_those_of_the_checkpoint(save):
    path = save(Model(2), hyper_parameters={"width": 9, "bias": True})
    assert Model.load_from_checkpoint(path, width=2).hparams == {"width": 2, "bias": True}


def test_a_keyword_argument_that_init_does_not_have_is_told(save):
    path = save(Model())
    with pytest.warns(UserWarning, match="no such argument: wdith. It has: width, bias") as caught:
        Model.load_from_checkpoint(path, wdith=3)
    assert caught[0].filename == __file__


def test_saved_arguments_that_init_does_not_take_are_passed_over(save):
    class Older(Model):
        def __init__(self, width, bias, dropout):
            super().__init__(width, bias)

    assert Model.load_from_checkpoint(save(Older(3, True, 0.5))).hparams == {"width": 3, "bias": True}


def test_an_init_with_kwargs_gets_them_all(save):
    class Open(LightningModule):
        def __init__(self, width, **others):
            super().__init__()
            self.layer = nn.Linear(width, 1)
            self.others = others

    model = Open.load_from_checkpoint(save(Model(3)), more=1)
    assert model.others == {"bias": True, "more": 1}


def test_a_missing_argument_is_named_with_two_ways_to_give_it(save):
    class Strict(Model):
        def __init__(self, width, extra):
            super().__init__(width)
            self.extra = extra

    path = save(Model())
    message = (
        r"`Strict.__init__` needs extra, and the checkpoint holds these hyper-parameters: width, .*"
        r"Strict\.load_from_checkpoint\(path, extra=\.\.\.\).*`self\.save_hyperparameters\(\)` in `__init__`"
    )
    with pytest.raises(TypeError, match=message):
        Strict.load_from_checkpoint(path)
    assert Strict.load_from_checkpoint(path, extra=5).extra == 5


def test_a_class_without_an_init_needs_no_arguments(save):
    class Bare(LightningModule): ...

    path = save(Model(), state_dict={"unknown": torch.zeros(1)})
    with pytest.warns(UserWarning, match="in the checkpoint and not in the model"):
        assert isinstance(Bare.load_from_checkpoint(path, strict=False), Bare)


def test_a_checkpoint_without_hyper_parameters_takes_the_defaults(save):
    path = save(Model(2), hyper_parameters=None, hparams_name=None)
    assert Model.load_from_checkpoint(path).hparams == {"width": 2, "bias": True}


class Configured(LightningModule):
    def __init__(self, config, other=1):
        super().__init__()
        self.save_hyperparameters(config)
        self.config, self.other = config, other
        self.layer = nn.Linear(1, 1)


@pytest.mark.parametrize("config", [{"lr": 1, "depth": 2}, Namespace(lr=1, depth=2)])
def test_a_configuration_goes_to_the_argument_it_came_from(save, config):
    model = Configured.load_from_checkpoint(save(Configured(config)))
    assert model.config["lr"] == model.config.lr == 1
    assert model.hparams == {"lr": 1, "depth": 2}


def test_keyword_arguments_change_entries_of_the_configuration_or_arguments(save):
    path = save(Configured({"lr": 1}))
    model = Configured.load_from_checkpoint(path, lr=7, other=8)
    assert (model.config, model.other) == ({"lr": 7}, 8)
    assert Configured.load_from_checkpoint(path, config={"z": 1}).config == {"z": 1}


def test_arguments_come_back_with_their_types(save):
    class Pathed(Model):
        def __init__(self, root, options):
            super().__init__()
            self.file = root / "file"
            self.lr = options.lr

    model = Pathed.load_from_checkpoint(save(Pathed(Path("data"), Namespace(lr=3))))
    assert (model.file, model.lr) == (Path("data/file"), 3)


def test_checkpoints_of_early_lightning_have_them_under_another_key(save):
    path = save(Model(3), hyper_parameters=None, hparams_name=None, module_arguments={"width": 3})
    assert Model.load_from_checkpoint(path).hparams.width == 3


def test_the_keys_of_a_command_line_are_no_arguments(save):
    class Open(Model):
        def __init__(self, **others):
            super().__init__(**others)

    path = save(Model(3), hyper_parameters={"width": 3, "_instantiator": "x", "_class_path": "y"})
    assert Open.load_from_checkpoint(path).hparams == {"width": 3, "bias": True}


# --------------------------------------------------------------------------------------------- loading


def test_hooks_run_in_order_before_the_weights_are_loaded(save):
    calls = []

    class Late(LightningModule):
        def configure_model(self):
            calls.append("configure_model")
            self.layer = nn.Linear(2, 1)

        def on_load_checkpoint(self, checkpoint):
            calls.append("on_load_checkpoint")
            checkpoint["state_dict"]["layer.bias"] = torch.tensor([5.0])

        def load_state_dict(self, *args, **kwargs):
            calls.append("load_state_dict")
            return super().load_state_dict(*args, **kwargs)

    model = Late.load_from_checkpoint(save(Model()))
    assert calls == ["configure_model", "on_load_checkpoint", "load_state_dict"]
    assert model.layer.bias.item() == 5


def test_keys_have_to_agree(save):
    path = save(Model(), state_dict={"layer.weight": torch.zeros(1, 2), "foo": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "layer.bias"'):
        Model.load_from_checkpoint(path)


@pytest.mark.parametrize("how", ["argument", "attribute"])
def test_keys_that_do_not_agree_can_be_told_instead(save, how):
    class Lenient(Model):
        def __init__(self, width=2, bias=True):
            super().__init__(width, bias)
            self.strict_loading = how != "attribute"

    path = save(Model(), state_dict={"layer.weight": torch.ones(1, 2), "foo": torch.zeros(1)})
    with pytest.warns(UserWarning, match="These keys are") as caught:
        model = Lenient.load_from_checkpoint(path, **({"strict": False} if how == "argument" else {}))
    assert [str(warning.message).rpartition("[")[2] for warning in caught] == ["'layer.bias'].", "'foo']."]
    assert model.layer.weight.tolist() == [[1, 1]]


def test_strict_against_the_modules_own_word_is_an_error(save):
    class Lenient(Model):
        def __init__(self):
            super().__init__()
            self.strict_loading = False

    path = save(Model())
    with pytest.raises(ValueError, match=r"contradicts `Lenient.strict_loading`"):
        Lenient.load_from_checkpoint(path, strict=True)


def test_a_state_dict_without_tensors_is_told(save):
    path = save(LightningModule(), state_dict={})
    with pytest.warns(UserWarning, match=r"a\.ckpt holds no tensors"):
        LightningModule.load_from_checkpoint(path)


def test_a_load_state_dict_that_returns_nothing_is_fine(save):
    class Silent(Model):
        def load_state_dict(self, state_dict, strict=True):
            super().load_state_dict(state_dict, strict)

    assert isinstance(Silent.load_from_checkpoint(save(Model()), strict=False), Silent)


def test_map_location_says_where_tensors_go(save):
    seen = []

    class Watching(Model):
        def on_load_checkpoint(self, checkpoint):
            seen.append(checkpoint["state_dict"]["layer.weight"].device.type)

    path = save(Model())
    assert Watching.load_from_checkpoint(path, map_location="cpu").device.type == "cpu"
    assert seen == ["cpu"]


def test_tensors_of_devices_that_are_not_here_go_to_the_cpu(save, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:63")
    path = save(Model())
    monkeypatch.undo()
    assert Model.load_from_checkpoint(path).device.type == "cpu"


def test_classes_that_are_not_plain_need_trust(save):
    path = save(Model(), hyper_parameters={"width": 2, "extra": Namespace(a=1)})
    with pytest.raises(Exception, match="weights_only=False"):
        Model.load_from_checkpoint(path)
    assert Model.load_from_checkpoint(path, weights_only=False).hparams.width == 2


def test_a_file_that_is_no_checkpoint_says_so(tmp_path):
    torch.save(Model().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(RuntimeError, match="bare state dict"):
        Model.load_from_checkpoint(tmp_path / "weights.pt")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.ckpt"):
        Model.load_from_checkpoint(tmp_path / "nothing.ckpt")


# ------------------------------------------------------------------------------------- only on classes


@pytest.mark.parametrize("owner", [Model(), Data(1)])
def test_an_instance_refuses_when_it_is_called_and_not_before(owner):
    assert hasattr(owner, "load_from_checkpoint")
    with pytest.raises(TypeError, match=r"can't be called on an instance.*\.load_from_checkpoint\(...\)"):
        owner.load_from_checkpoint("a.ckpt")


def test_the_class_method_keeps_its_signature_and_docs():
    parameters = list(inspect.signature(Model.load_from_checkpoint).parameters)
    assert parameters[:3] == ["checkpoint_path", "map_location", "hparams_file"]
    assert Model.load_from_checkpoint.__doc__


def test_it_can_be_overridden_and_called_through_super(save):
    class Mine(Model):
        @classmethod
        def load_from_checkpoint(cls, path, **kwargs):
            return super().load_from_checkpoint(path, **kwargs)

    assert type(Mine.load_from_checkpoint(save(Model(3)))) is Mine


# ---------------------------------------------------------------------------------------- data modules


def test_a_datamodule_comes_back_with_its_arguments_and_state(save):
    path = save(Data(4), **{Data.__qualname__: {"position": 3}}, **Model(9).hyper_parameters_for_checkpoint())
    data = Data.load_from_checkpoint(path, shuffle=True)
    assert data.hparams == {"batch_size": 4, "shuffle": True}
    assert data.loaded == {"position": 3}


def test_a_datamodule_without_state_is_not_asked_to_load(save):
    assert Data.load_from_checkpoint(save(Data(4))).loaded is None


def test_a_datamodule_does_not_take_the_arguments_of_the_module(save):
    path = save(Model())
    with pytest.raises(
        TypeError, match=r"`Data.__init__` needs batch_size, and the checkpoint holds no hyper"
    ):
        Data.load_from_checkpoint(path)


# ----------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "text"),
    [("h.yaml", "width: 5\nbias: false"), ("h.yml", "width: 5"), ("h.csv", "key,value\nwidth,5\n")],
)
def test_a_file_replaces_the_hyper_parameters_of_the_checkpoint(save, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    model = Model.load_from_checkpoint(
        save(Model(5, bias="false" not in text), hyper_parameters={"width": 1}), hparams_file=tmp_path / name
    )
    assert model.hparams == {"width": 5, "bias": "false" not in text}


def test_a_file_of_another_kind_is_an_error(save, tmp_path):
    path = save(Model())
    with pytest.raises(ValueError, match=r"has to end in .csv, .yml or .yaml"):
        Model.load_from_checkpoint(path, hparams_file=tmp_path / "h.json")


def test_a_file_that_is_not_there_is_told(save, tmp_path):
    path = save(Model())
    with pytest.warns(RuntimeWarning, match="no file"):
        Model.load_from_checkpoint(path, hparams_file=tmp_path / "h.yaml")


class Color(Enum):
    RED = 1


def test_yaml_holds_plain_values(tmp_path):
    values = {
        "a": 1,
        "b": [1.5, None],
        "c": {"d": "grüße"},
        "path": Path("x"),
        "color": Color.RED,
        "e": (1, 2),
    }
    save_hparams_to_yaml(tmp_path / "h.yaml", values)
    expected = {"a": 1, "b": [1.5, None], "c": {"d": "grüße"}, "path": "x", "color": "RED", "e": [1, 2]}
    assert load_hparams_from_yaml(tmp_path / "h.yaml") == expected


def test_yaml_goes_without_what_is_not_plain(tmp_path):
    with pytest.warns(UserWarning, match="goes without net, weights"):
        save_hparams_to_yaml(tmp_path / "h.yaml", Namespace(a=1, net=nn.ReLU(), weights=torch.zeros(1)))
    assert (tmp_path / "h.yaml").read_text() == "a: 1\n"


def test_yaml_with_tuples_is_read_and_with_code_is_not(tmp_path):
    (tmp_path / "h.yaml").write_text("a: !!python/tuple [1, [2]]")
    assert load_hparams_from_yaml(tmp_path / "h.yaml") == {"a": (1, [2])}
    (tmp_path / "h.yaml").write_text("a: !!python/name:os.system ''")
    with pytest.raises(Exception, match="could not determine a constructor"):
        load_hparams_from_yaml(tmp_path / "h.yaml")


def test_csv_holds_what_can_be_spelled(tmp_path):
    values = {"a": 1, "b": "x", "c": None, "d": [1, "y"], "e": True, "f": ""}
    save_hparams_to_tags_csv(tmp_path / "h.csv", values)
    assert load_hparams_from_tags_csv(tmp_path / "h.csv") == values


@pytest.mark.parametrize("load", [load_hparams_from_yaml, load_hparams_from_tags_csv])
def test_no_file_means_no_hyper_parameters(tmp_path, load):
    with pytest.warns(RuntimeWarning, match="no hyper-parameters are read"):
        assert load(tmp_path / "nothing") == {}


@pytest.mark.parametrize("write", [save_hparams_to_yaml, save_hparams_to_tags_csv])
def test_files_need_a_folder_and_a_mapping(tmp_path, write):
    with pytest.raises(RuntimeError, match=r"folder .* is not there"):
        write(tmp_path / "nowhere" / "h", {})
    with pytest.raises(TypeError, match="has to be a mapping"):
        write(tmp_path / "h", 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1e-3", 0.001), ("[1, 2]", [1, 2]), ("None", None), ("abc", "abc"), ("", "")],
)
def test_convert_reads_what_python_spells(text, value):
    assert convert(text) == value


def test_update_goes_into_dicts():
    values = {"a": {"b": 1, "c": 2}, "d": 3}
    update_hparams(values, {"a": {"b": 9}, "d": {"e": 1}, "new": 1})
    assert values == {"a": {"b": 9, "c": 2}, "d": {"e": 1}, "new": 1}
