"""accelerator=, devices=, num_nodes=, strategy=, precision=, plugins= -> Hardware, one stage for each."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levin.accelerators import Accelerator, AcceleratorRegistry
from levin.checkpoint.io import CheckpointIO
from levin.clusters import ClusterEnvironment, find_cluster
from levin.precision import Precision, parse_precision
from levin.strategies import (
    LayerSync,
    ParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
    TorchSyncBatchNorm,
)
from levin.utils.errors import MisconfigurationException
from levin.utils.rank import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Hardware:
    """What a run computes on, settled.

    Attributes:
        accelerator: The kind of device.
        devices: Those of this machine.
        num_nodes: The machines.
        strategy: How the model is laid over them, with its precision and its way to the disk.
        cluster: Where this process stands among those of the run.
    """

    accelerator: Accelerator
    devices: tuple[torch.device, ...]
    num_nodes: int
    strategy: Strategy
    cluster: ClusterEnvironment


@dataclass(frozen=True)
class Plugins:
    """The parts that ``plugins=`` replaces."""

    precision: Precision | None = None
    checkpoint_io: CheckpointIO | None = None
    cluster: ClusterEnvironment | None = None
    layer_sync: LayerSync | None = None


def resolve(
    *,
    accelerator: str | Accelerator = "auto",
    devices: int | str | list[int] = "auto",
    num_nodes: int = 1,
    strategy: str | Strategy = "auto",
    precision: str | int | None = None,
    plugins: Any = None,
    sync_batchnorm: bool = False,
) -> Hardware:
    """Settle what a run computes on.

    Raises:
        ValueError: If a name is unknown, or two arguments say the same thing.
        MisconfigurationException: If the arguments do not fit together, or to this machine.
    """
    chosen_plugins = parse_plugins(plugins, precision)
    chosen = choose_accelerator(accelerator, strategy)
    cluster = choose_cluster(strategy, chosen_plugins)
    found = parse_devices(chosen, devices, num_nodes, cluster)
    chosen_strategy = choose_strategy(strategy, found, num_nodes, chosen)
    connect(chosen_strategy, found, num_nodes, cluster)
    if sync_batchnorm and not isinstance(chosen_strategy, ParallelStrategy):
        rank_zero_info("`sync_batchnorm=True` changes nothing on a single device.")
    choose_layer_sync(chosen_strategy, chosen_plugins, sync_batchnorm=sync_batchnorm)
    choose_precision(chosen_strategy, chosen_plugins, precision)
    choose_checkpoint_io(chosen_strategy, chosen_plugins)
    return Hardware(chosen, found, num_nodes, chosen_strategy, cluster)


def parse_plugins(plugins: Any, precision: str | int | None) -> Plugins:
    """Sort the plugins by what they replace."""
    given = (
        []
        if plugins is None
        else list(plugins)
        if isinstance(plugins, Iterable) and not isinstance(plugins, str)
        else [plugins]
    )
    kinds = {
        "precision": Precision,
        "checkpoint_io": CheckpointIO,
        "cluster": ClusterEnvironment,
        "layer_sync": LayerSync,
    }
    found: dict[str, Any] = {}
    for plugin in given:
        kind = next((name for name, base in kinds.items() if isinstance(plugin, base)), None)
        if kind is None:
            hint = f" For a strategy write strategy={plugin!r}." if isinstance(plugin, str) else ""
            raise MisconfigurationException(
                f"`plugins` holds {plugin!r}, which is no plugin. A plugin is an instance of "
                f"{', '.join(b.__name__ for b in kinds.values())}.{hint}"
            )
        if kind in found:
            raise MisconfigurationException(
                f"`plugins` holds two of a kind: {found[kind]!r} and {plugin!r}. Give one."
            )
        found[kind] = plugin
    if "precision" in found and precision is not None:
        raise ValueError(
            f"precision={precision!r} and the plugin {found['precision']!r} both choose the precision. Give "
            "one."
        )
    return Plugins(**found)


_OTHER_DEVICES = ("tpu", "xla", "hpu", "ipu")  # known, and not "gpu" misspelt


def _meant(word: str, known: list[str]) -> str:
    """A guess at what an unknown accelerator was meant to be, for a message."""
    if word in _REMOVED_STRATEGIES or word.startswith(_PARALLEL_STRATEGIES):
        return f" It is the name of a strategy: did you mean strategy={word!r}?"
    if word in _OTHER_DEVICES:
        return " levin has no support for it."
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def choose_accelerator(accelerator: str | Accelerator, strategy: str | Strategy = "auto") -> Accelerator:
    """The kind of device: the one that the strategy brings, a named one, or the best one there is."""
    own = strategy.accelerator if isinstance(strategy, Strategy) else None
    if own is not None and accelerator == "auto":
        return own
    chosen = accelerator if isinstance(accelerator, Accelerator) else _named_accelerator(accelerator)
    if own is not None and type(own) is not type(chosen):
        raise MisconfigurationException(
            f"accelerator={accelerator!r} was given, and the strategy has its own: {type(own).__name__}. "
            "Leave one of the two out."
        )
    return chosen


def _named_accelerator(accelerator: str) -> Accelerator:
    word = str(accelerator).lower()
    if word in ("auto", "gpu"):
        found = next((name for name in ("mps", "cuda") if _is_available(name)), None)
        if found is None and word == "gpu":
            raise MisconfigurationException(
                'No supported gpu backend found! accelerator="gpu" needs a CUDA or MPS device, and there '
                'is none on this machine. Use accelerator="cpu", or "auto" to take what there is.'
            )
        word = found or "cpu"
    known = sorted(AcceleratorRegistry.available())
    if word not in known:
        raise ValueError(
            f"accelerator={accelerator!r} is not known.{_meant(word, [*known, 'gpu', 'auto'])} Known: "
            f"'auto', 'gpu', {', '.join(map(repr, known))}."
        )
    if not _is_available(word):
        raise MisconfigurationException(
            f"accelerator={accelerator!r} is not available on this machine. Available: "
            f"{[name for name in known if _is_available(name)]}; "
            '"auto" takes the best of them.'
        )
    chosen: Accelerator = AcceleratorRegistry.make(word)
    return chosen


def _is_available(name: str) -> bool:
    return bool(AcceleratorRegistry.make(name).is_available())


def choose_cluster(strategy: str | Strategy, plugins: Plugins) -> ClusterEnvironment:
    """Where this process stands: as the strategy or a plugin says, else as it is found out."""
    own = strategy.cluster_environment if isinstance(strategy, ParallelStrategy) else None
    if own is not None and plugins.cluster is not None:
        raise MisconfigurationException(
            f"The cluster environment {plugins.cluster!r} was given as a plugin, and the strategy has its "
            f"own: {own!r}. Leave one of the two out."
        )
    return own or plugins.cluster or find_cluster()


def parse_devices(
    accelerator: Accelerator, devices: int | str | list[int], num_nodes: Any, cluster: ClusterEnvironment
) -> tuple[torch.device, ...]:
    """The devices of this machine; "auto" is as many as processes were started, or all there are."""
    if not isinstance(num_nodes, int) or isinstance(num_nodes, bool) or num_nodes < 1:
        raise ValueError(f"num_nodes={num_nodes!r}. It is a whole number from 1 on.")
    if devices in (0, "0", []) and devices is not False:
        raise MisconfigurationException(
            f"devices={devices!r} asks for no device at all. Give a number from 1 on, or 'auto'."
        )
    wanted: Any = devices
    if devices == "auto":
        wanted = accelerator.auto_device_count()
        if cluster.creates_processes_externally and cluster.world_size() % num_nodes == 0:
            wanted = cluster.world_size() // num_nodes
        elif is_interactive():
            wanted = 1
    return tuple(accelerator.get_parallel_devices(accelerator.parse_devices(wanted)))


def is_interactive() -> bool:
    """Whether this is a terminal or a notebook, where there is no script that could be run again."""
    return hasattr(sys, "ps1")


_DDP = "Use strategy='ddp'"
_NODES = (  # one replica of the model on each machine, its batch spread over the devices
    "Use strategy='ddp'. Where the loss needs the samples of all devices, gather them in it: "
    "`self.all_gather(z, sync_grads=True)`"
)
_COMPRESSED = (
    "Use strategy='ddp'; to send fewer bytes DDPStrategy(gradient_compression='fp16', 'bf16' or 'powersgd')"
)
_BAGUA = (
    "Use strategy='ddp' for gradient_allreduce; DDPStrategy(gradient_compression='bf16' or 'powersgd') for "
    "bytegrad and qadam; DDPStrategy(local_sgd=LocalSGD(period=8, within_node=True)) for the decentralized "
    "and asynchronous algorithms"
)
_SELDOM = "Use strategy='ddp', or DDPStrategy(local_sgd=8), which averages weights after every 8 steps"
_SHARDED = "Use strategy='fsdp', which shards parameters, gradients and optimizer states"
_OTHER_HARDWARE = "levin runs on CPU, CUDA and MPS devices"
_REMOVED_STRATEGIES = {
    "dp": _DDP, "ddp2": _NODES, "horovod": _COMPRESSED, "bagua": _BAGUA, "hivemind": _SELDOM,
    "ddp_cpu": "Use accelerator='cpu', strategy='ddp_spawn'",
    "ddp_sharded": _SHARDED, "ddp_sharded_spawn": _SHARDED, "ddp_fully_sharded": _SHARDED,
    "fsdp_native": _SHARDED, "fsdp_native_full_shard_offload": "Use strategy='fsdp_cpu_offload'",
    "colossalai": _SHARDED,
    "tpu_spawn": _OTHER_HARDWARE, "tpu_spawn_debug": _OTHER_HARDWARE, "ipu_strategy": _OTHER_HARDWARE,
    "hpu_parallel": _OTHER_HARDWARE, "hpu_single": _OTHER_HARDWARE,
}  # fmt: skip

_PARALLEL_STRATEGIES = ("ddp", "fsdp", "deepspeed", "xla", "single_xla", "single_tpu")


def choose_strategy(
    strategy: str | Strategy, devices: tuple[torch.device, ...], num_nodes: int, accelerator: Accelerator
) -> Strategy:
    """How the model is laid over the devices."""
    is_one = len(devices) * num_nodes == 1
    chosen: Strategy
    if isinstance(strategy, Strategy):
        chosen = strategy
    elif not isinstance(strategy, str):
        raise _unknown_strategy(strategy)
    elif strategy in _REMOVED_STRATEGIES:
        raise ValueError(f"strategy={strategy!r} was removed. {_REMOVED_STRATEGIES[strategy]}.")
    elif strategy == "single_device" or (strategy == "auto" and is_one):
        chosen = SingleDeviceStrategy(devices[0])
    elif strategy == "auto":
        chosen = StrategyRegistry.make("ddp_fork" if is_interactive() else "ddp")
    elif strategy in StrategyRegistry:
        chosen = StrategyRegistry.make(strategy)
    elif strategy.startswith(_PARALLEL_STRATEGIES) and not strategy.startswith("ddp"):
        raise MisconfigurationException(
            f"strategy={strategy!r} is not in this version of levin. Use strategy='ddp', with which each "
            "process has a whole copy of the model."
        )
    else:
        raise _unknown_strategy(strategy)
    if not isinstance(chosen, ParallelStrategy) and not is_one:
        raise MisconfigurationException(
            f"{len(devices)} devices on each of {num_nodes} machines were asked for, and "
            f"{type(chosen).__name__} uses one. Use strategy='ddp', or devices=1 and num_nodes=1."
        )
    if accelerator.name() == "mps" and isinstance(chosen, ParallelStrategy):
        raise MisconfigurationException(
            f"There is one MPS device, and strategy={strategy!r} is for several. Use strategy='auto', or "
            "accelerator='cpu'."
        )
    chosen.accelerator = accelerator
    return chosen


def _unknown_strategy(strategy: Any) -> ValueError:
    known = ["auto", "single_device", *StrategyRegistry.available()]
    near = difflib.get_close_matches(str(strategy), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(
        f"strategy={strategy!r} is not known.{hint} Known: {', '.join(map(repr, known))}, or an instance of "
        "levin.strategies.Strategy."
    )


def connect(
    strategy: Strategy, devices: tuple[torch.device, ...], num_nodes: int, cluster: ClusterEnvironment
) -> None:
    """Tell a strategy of several processes which devices there are, and where it is among them."""
    if cluster.creates_processes_externally and not isinstance(strategy, SingleDeviceStrategy):
        cluster.validate_settings(len(devices), num_nodes)
    if not isinstance(strategy, ParallelStrategy):
        return
    strategy.connect(list(devices), num_nodes, cluster)
    launcher = strategy.launcher
    if is_interactive() and launcher is not None and not launcher.is_interactive_compatible:
        raise MisconfigurationException(
            f"start_method={strategy.start_method!r} starts the script again for each device, and there is "
            "none in a terminal or a notebook. Use strategy='ddp_fork' or 'ddp_notebook'."
        )


def choose_layer_sync(strategy: Strategy, plugins: Plugins, *, sync_batchnorm: bool) -> None:
    """What batch norm is computed over: each process's batch, or all."""
    if not isinstance(strategy, ParallelStrategy):
        return
    strategy.layer_sync = plugins.layer_sync or (TorchSyncBatchNorm() if sync_batchnorm else None)


def choose_precision(strategy: Strategy, plugins: Plugins, precision: str | int | None) -> None:
    """Give the strategy its precision."""
    own, wanted = strategy.precision, plugins.precision
    if wanted is None and precision is not None:
        wanted = parse_precision(precision, strategy.root_device.type)
    if wanted is None:
        return
    if type(own) is not Precision and own.precision != wanted.precision:
        raise MisconfigurationException(
            f"The precision {wanted.precision!r} was given, and the strategy has its own: "
            f"{own.precision!r}. Leave one of the two out."
        )
    strategy.set_precision(wanted)


def choose_checkpoint_io(strategy: Strategy, plugins: Plugins) -> None:
    """Give the strategy its way to the disk."""
    if plugins.checkpoint_io is None:
        return
    if strategy.brings_checkpoint_io:
        raise MisconfigurationException(
            f"The checkpoint_io {plugins.checkpoint_io!r} was given as a plugin, and the strategy has "
            f"its own: {strategy.checkpoint_io!r}. Leave one of the two out."
        )
    strategy.checkpoint_io = plugins.checkpoint_io


def announce(hardware: Hardware) -> None:
    """Say which device is used, and warn where a better one lies idle."""
    available = next((name for name in ("mps", "cuda") if _is_available(name)), None)
    used = hardware.strategy.root_device.type
    kind = f" ({available})" if available else ""
    rank_zero_info(f"GPU available: {available is not None}{kind}, used: {used in ('cuda', 'mps')}")
    if available is not None and used == "cpu":
        rank_zero_warn(f'A GPU is available and not used. accelerator="gpu" uses it ({available}).')
