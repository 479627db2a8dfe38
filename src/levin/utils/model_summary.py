"""ModelSummary: the layers of a module, with their sizes, as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from levin.utils.apply import apply_to_collection, move_data_to_device
from levin.utils.imports import require
from levin.utils.modes import in_evaluation
from levin.utils.rank import rank_zero_warn
from levin.utils.seed import isolate_rng

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

# What is not known: the size of a layer that nothing went through.
UNKNOWN_SIZE = "?"
NOT_APPLICABLE = "n/a"
PARAMETER_NUM_UNITS = (" ", "K", "M", "B", "T")
_MEGABYTE = 1e6

Sizes = str | list[Any]
Table = list[tuple[str, list[str]]]


class LayerSummary:
    """What there is to say of one layer.

    Args:
        module: The layer.

    Attributes:
        module: The layer.
        in_size: Shape of its input, or nested lists of shapes; ``"?"`` as long as nothing has gone through
            it.
        out_size: The same of its output.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.in_size: Sizes = UNKNOWN_SIZE
        self.out_size: Sizes = UNKNOWN_SIZE
        self._hook: RemovableHandle | None = None

    @property
    def layer_type(self) -> str:
        """The name of its class."""
        return str(getattr(self.module, "original_name", type(self.module).__name__))  # of a scripted one

    @property
    def num_parameters(self) -> int:
        """How many numbers its parameters have, its own layers' included; 0 for those not made yet."""
        return sum(count_parameter(parameter) for parameter in self.module.parameters())

    @property
    def training(self) -> bool:
        """Whether it is in train mode."""
        return self.module.training

    @property
    def has_lazy_parameters(self) -> bool:
        """Whether it has parameters that the first batch will make."""
        return any(is_lazy(parameter) for parameter in self.module.parameters())

    def watch(self) -> None:
        """Note the sizes of what goes through it next, once."""

        def note(_: nn.Module, args: Any, output: Any) -> None:
            self.in_size = parse_batch_shape(args[0] if len(args) == 1 else args)
            self.out_size = parse_batch_shape(output)
            self.detach_hook()

        if not isinstance(self.module, torch.jit.ScriptModule):  # these take no hooks
            self._hook = self.module.register_forward_hook(note)

    def detach_hook(self) -> None:
        """Stop watching."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


class ModelSummary:
    """The layers of a module: name, class, parameters, mode; sizes and FLOPs too, if it has an example input.

    ``str(ModelSummary(model))`` is the table. If the module has an ``example_input_array``, that is sent
    through it once, in eval mode and without gradients; random numbers and modes are afterwards as they were.

    Args:
        model: The module.
        max_depth: How deep to go: 1 for the module's own layers, 2 for theirs as well, -1 for all, 0 for none
            (the totals alone).

    Raises:
        ValueError: ``max_depth`` is no whole number, or less than -1.
    """

    def __init__(self, model: nn.Module, max_depth: int = 1) -> None:
        check_depth(max_depth)
        self._model = model
        self._max_depth = max_depth
        self.flop_counts: dict[str, int] = {}
        self._total_flops = 0
        self._has_example = getattr(model, "example_input_array", None) is not None
        self._layers = self.summarize()
        if any(is_lazy(parameter) for parameter in model.parameters()):
            rank_zero_warn(
                "Some parameters of the model are made by the first batch: its summary leaves them out, and "
                "marks their layers with ~. To have them in it, send a batch through the model before that."
            )

    def summarize(self) -> dict[str, LayerSummary]:
        """Look at the layers (again); return them by name."""
        layers = {name: LayerSummary(module) for name, module in self.named_modules}
        if self._has_example:
            self._run_example(layers)
        self._layers = layers
        return layers

    def _run_example(self, layers: dict[str, LayerSummary]) -> None:
        flop_counter = require("torch.utils.flop_counter").FlopCounterMode(display=False)
        try:
            for layer in layers.values():
                layer.watch()
            with in_evaluation(self._model), isolate_rng(), flop_counter:
                _call(self._model, _on_device_of(self._model, self._model.example_input_array))
        finally:
            for layer in layers.values():
                layer.detach_hook()
        root = type(self._model).__name__
        counts = flop_counter.get_flop_counts()
        self.flop_counts = {name: sum(counts.get(f"{root}.{name}", {}).values()) for name in layers}
        self._total_flops = flop_counter.get_total_flops()

    @property
    def named_modules(self) -> list[tuple[str, nn.Module]]:
        """The layers and their names, as deep as was asked for; each once, even if it has several names."""
        if self._max_depth == 0:
            return []
        deepest = math.inf if self._max_depth == -1 else self._max_depth
        return [
            (name, module)
            for name, module in self._model.named_modules()
            if name and name.count(".") < deepest
        ]

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers."""
        return list(self._layers)

    @property
    def layer_types(self) -> list[str]:
        """The names of their classes."""
        return [layer.layer_type for layer in self._layers.values()]

    @property
    def param_nums(self) -> list[int]:
        """How many parameters each has."""
        return [layer.num_parameters for layer in self._layers.values()]

    @property
    def training_modes(self) -> list[bool]:
        """Whether each is in train mode."""
        return [layer.training for layer in self._layers.values()]

    @property
    def in_sizes(self) -> list[Sizes]:
        """The shapes of their inputs."""
        return [layer.in_size for layer in self._layers.values()]

    @property
    def out_sizes(self) -> list[Sizes]:
        """The shapes of their outputs."""
        return [layer.out_size for layer in self._layers.values()]

    @property
    def total_parameters(self) -> int:
        """How many numbers all parameters have, one that is shared counted once."""
        return sum(count_parameter(parameter) for parameter in self._model.parameters())

    @property
    def trainable_parameters(self) -> int:
        """How many of them have a gradient."""
        return sum(
            count_parameter(parameter) for parameter in self._model.parameters() if parameter.requires_grad
        )

    @property
    def total_layer_params(self) -> int:
        """How many of them belong to the layers in the table."""
        in_layers = {
            id(p): count_parameter(p) for layer in self._layers.values() for p in layer.module.parameters()
        }
        return sum(in_layers.values())

    @property
    def model_size(self) -> float:
        """What the parameters take, in MB (millions of bytes)."""
        size = sum(count_parameter(parameter) * parameter.element_size() for parameter in _made(self._model))
        return size / _MEGABYTE

    @property
    def total_training_modes(self) -> dict[str, int]:
        """How many modules, without the outermost, are in which mode: ``{"train": n, "eval": m}``."""
        modes = [module.training for name, module in self._model.named_modules() if name]
        return {"train": modes.count(True), "eval": modes.count(False)}

    @property
    def total_flops(self) -> int:
        """FLOPs of a forward pass of the example input; 0 without one."""
        return self._total_flops

    def table(self) -> Table:
        """The table by columns: (header, cells)."""
        layers = self._layers.values()
        columns: Table = [
            (" ", list(map(str, range(len(layers))))),
            ("Name", self.layer_names),
            ("Type", self.layer_types),
            ("Params", [_marked_count(layer) for layer in layers]),
            *self._extra_columns(),
            ("Mode", ["train" if layer.training else "eval" for layer in layers]),
        ]
        if self._has_example:
            columns.append(
                ("FLOPs", [get_human_readable_count(self.flop_counts[name]) for name in self._layers])
            )
            columns.append(("In sizes", list(map(str, self.in_sizes))))
            columns.append(("Out sizes", list(map(str, self.out_sizes))))
        rest = self.total_parameters - self.total_layer_params
        if rest > 0:
            known = {" ": " ", "Name": "other params", "Params": get_human_readable_count(rest)}
            for header, cells in columns:
                cells.append(known.get(header, NOT_APPLICABLE))
        return columns

    def _extra_columns(self) -> Table:
        return []

    def __str__(self) -> str:
        return format_table(
            self.table(),
            self.total_parameters,
            self.trainable_parameters,
            self.model_size,
            self.total_training_modes,
            self.total_flops,
        )

    def __repr__(self) -> str:
        return str(self)


class DeepSpeedSummary(ModelSummary):
    """A summary of a module whose parameters DeepSpeed (stage 3) has dealt out over the devices."""

    @property
    def parameters_per_layer(self) -> list[int]:
        """How many parameters of each layer this device holds."""
        return [
            sum(_held_here(parameter) for parameter in layer.module.parameters())
            for layer in self._layers.values()
        ]

    def _extra_columns(self) -> Table:
        return [("Params per Device", [get_human_readable_count(held) for held in self.parameters_per_layer])]


def summarize(lightning_module: nn.Module, max_depth: int = 1) -> ModelSummary:
    """Return the summary of a module: see `ModelSummary`."""
    return ModelSummary(lightning_module, max_depth=max_depth)


def check_depth(max_depth: object) -> None:
    """Refuse a depth that means nothing.

    Raises:
        ValueError: It is no whole number, or less than -1.
    """
    if not isinstance(max_depth, int) or max_depth < -1:
        raise ValueError(f"`max_depth` is -1 (all layers), 0 (none) or more, not {max_depth!r}.")


def count_parameter(parameter: Tensor) -> int:
    """Return how many numbers a parameter has, in all if only a part is here; 0 if it is not made yet."""
    return 0 if is_lazy(parameter) else int(getattr(parameter, "ds_numel", parameter.numel()))


def _held_here(parameter: Tensor) -> int:
    part = getattr(parameter, "ds_tensor", parameter)
    return 0 if is_lazy(parameter) else part.numel()


def _made(model: nn.Module) -> Iterator[Tensor]:
    parameters: Iterator[Any] = model.parameters()
    return (parameter for parameter in parameters if not is_lazy(parameter))


def _marked_count(layer: LayerSummary) -> str:
    return ("~" if layer.has_lazy_parameters else "") + get_human_readable_count(layer.num_parameters)


def _on_device_of(model: nn.Module, example: Any) -> Any:
    """Return the example where the parameters are, floats in their precision if that is half or double."""
    parameter = next(_made(model), None)
    if parameter is None:
        return example

    def as_parameter(tensor: Tensor) -> Tensor:
        return tensor.to(parameter.dtype) if tensor.is_floating_point() else tensor

    example = move_data_to_device(example, parameter.device)
    return apply_to_collection(example, Tensor, as_parameter) if parameter.is_floating_point() else example


def _call(model: nn.Module, example: Any) -> Any:
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, (tuple, list)) else model(example)


def parse_batch_shape(batch: Any) -> Sizes:
    """Return the shape of a tensor as a list, those of a tuple or list as lists; ``"?"`` of all else."""
    if hasattr(batch, "shape"):
        return list(batch.shape)
    if isinstance(batch, (list, tuple)):
        return [parse_batch_shape(part) for part in batch]
    return UNKNOWN_SIZE


def get_human_readable_count(number: int) -> str:
    """Return a count in at most three digits and a unit: ``"66  "``, ``"1.2 K"``, ``"3.4 M"``, ``"12.3 B"``.

    Args:
        number: Not negative; beyond trillions it is given in trillions.

    Raises:
        ValueError: It is negative.
    """
    if number < 0:
        raise ValueError(f"A count cannot be negative: {number}.")
    group = min((len(str(int(number))) - 1) // 3, len(PARAMETER_NUM_UNITS) - 1)
    scaled = number / 1000**group
    if group == 0 or scaled >= 100:
        return f"{int(scaled):,d} {PARAMETER_NUM_UNITS[group]}"
    return f"{scaled:,.1f} {PARAMETER_NUM_UNITS[group]}"


def get_formatted_model_size(total_model_size: float) -> str:
    """Return a size in MB with three decimals."""
    return f"{total_model_size:,.3f}"


def totals(
    table: Table,
    total_parameters: int,
    trainable_parameters: int,
    model_size: float,
    total_training_modes: Mapping[str, int],
    total_flops: int,
) -> list[tuple[str, str]]:
    """Return what stands below the table: (what, how many). FLOPs only if the table has them."""
    rows = [
        ("Trainable params", get_human_readable_count(trainable_parameters)),
        ("Non-trainable params", get_human_readable_count(total_parameters - trainable_parameters)),
        ("Total params", get_human_readable_count(total_parameters)),
        ("Total estimated model params size (MB)", get_formatted_model_size(model_size)),
        ("Modules in train mode", str(total_training_modes["train"])),
        ("Modules in eval mode", str(total_training_modes["eval"])),
    ]
    if any(header == "FLOPs" for header, _ in table):
        rows.append(("Total Flops", get_human_readable_count(total_flops)))
    return rows


def format_table(table: Table, *sums: Any) -> str:
    """Return a table as text, with its totals below it.

    Args:
        table: (header, cells), column by column.
        *sums: As `totals` takes them.
    """
    widths = [max(map(len, [header, *cells])) for header, cells in table]

    def row(texts: Sequence[str]) -> str:
        return " | ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()

    ruler = "-" * (sum(widths) + 3 * len(widths))
    lines = [row([header for header, _ in table]), ruler]
    lines += [row(cells) for cells in zip(*(cells for _, cells in table), strict=True)]
    lines.append(ruler)
    lines += [f"{value:<10}{name}" for name, value in totals(table, *sums)]
    return "\n".join(lines)
