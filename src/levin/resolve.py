"""accelerator=, devices=, num_nodes=, strategy=, precision=, plugins= -> Hardware, one stage for each."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levin.accelerators import Accelerator, AcceleratorRegistry
from levin.checkpoint.io import CheckpointIO
from levin.clusters import ClusterEnvironment, LightningEnvironment, find_cluster
from levin.distributed import group
from levin.precision import MixedPrecision, Precision, parse_precision
from levin.strategies import (
    LayerSync,
    ParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
    TorchSyncBatchNorm,
)
from levin.utils.errors import MisconfigurationException, PossibleUserWarning
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
    found = choose_devices(devices, chosen, num_nodes, cluster, strategy)
    is_one = len(found) * num_nodes == 1 and not (devices == "auto" and _counted(cluster) > 1)
    chosen_strategy = choose_strategy(strategy, found, num_nodes, chosen, is_one=is_one)
    connect(chosen_strategy, found, num_nodes, cluster)
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
            is_strategy = isinstance(plugin, (str, Strategy))
            hint = f" For a strategy write strategy={_told(plugin)}." if is_strategy else ""
            raise MisconfigurationException(
                f"`plugins` holds {_told(plugin)}, which is no plugin. A plugin is an instance of "
                f"{', '.join(b.__name__ for b in kinds.values())}.{hint}"
            )
        if kind in found:
            raise MisconfigurationException(
                f"`plugins` holds two of a kind: {_told(found[kind])} and {_told(plugin)}. Give one."
            )
        found[kind] = plugin
    if "precision" in found and precision is not None:
        raise ValueError(
            f"precision={precision!r} and the plugin {found['precision']!r} both choose the precision. Give "
            "one."
        )
    return Plugins(**found)


def _told(value: Any) -> str:
    """A value as messages show it: without the address of an object that has no text of its own."""
    its: Any = type(value).__repr__
    return f"{type(value).__name__}()" if its is object.__repr__ else repr(value)


_OTHER_HARDWARE = "levin runs on CPU, CUDA and MPS devices"
_OTHER_DEVICES = ("tpu", "xla", "hpu", "ipu")  # known, and not "gpu" misspelt


def _meant(word: str, known: list[str]) -> str:
    """A guess at what an unknown accelerator was meant to be, for a message."""
    if word in _REMOVED_STRATEGIES or word.startswith(_PARALLEL_STRATEGIES):
        return f" It is the name of a strategy: did you mean strategy={word!r}?"
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def choose_accelerator(accelerator: str | Accelerator, strategy: str | Strategy = "auto") -> Accelerator:
    """The kind of device: the one that the strategy brings, a named one, or the best one there is."""
    own = _own_accelerator(strategy)
    if own is not None and accelerator == "auto":
        return own
    chosen = accelerator if isinstance(accelerator, Accelerator) else _named_accelerator(accelerator)
    if own is not None and type(own) is not type(chosen):
        raise MisconfigurationException(
            f"accelerator={accelerator!r} was given, and the strategy has its own: {type(own).__name__}. "
            "Leave one of the two out."
        )
    return chosen


def _own_accelerator(strategy: str | Strategy) -> Accelerator | None:
    if isinstance(strategy, Strategy) and strategy.accelerator is not None:
        return strategy.accelerator
    kinds = [device.type for device in _own_devices(strategy)]
    return _named_accelerator(kinds[0]) if kinds and kinds[0] in AcceleratorRegistry else None


def _own_devices(strategy: str | Strategy) -> tuple[torch.device, ...]:
    """The devices that a strategy was made for."""
    if isinstance(strategy, SingleDeviceStrategy):
        return (strategy.root_device,)
    return tuple(strategy.parallel_devices or ()) if isinstance(strategy, ParallelStrategy) else ()


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
    if word in _OTHER_DEVICES and word not in known:
        raise ValueError(f"accelerator={accelerator!r} is not supported: {_OTHER_HARDWARE}.")
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
            f"The cluster environment {_told(plugins.cluster)} was given as a plugin, and the strategy has "
            f"its own: {_told(own)}. Leave one of the two out."
        )
    return own or plugins.cluster or find_cluster()


def choose_devices(
    devices: int | str | list[int],
    accelerator: Accelerator,
    num_nodes: Any,
    cluster: ClusterEnvironment,
    strategy: str | Strategy = "auto",
) -> tuple[torch.device, ...]:
    """The devices of this machine: those that the strategy was made for, or those that are asked for."""
    if not isinstance(num_nodes, int) or isinstance(num_nodes, bool) or num_nodes < 1:
        raise ValueError(f"num_nodes={num_nodes!r}. It is a whole number from 1 on.")
    if devices in (0, "0", []) and devices is not False:
        raise MisconfigurationException(
            f"devices={devices!r} asks for no device at all. Give a number from 1 on, or 'auto'."
        )
    own = _own_devices(strategy)
    if devices == "auto":
        return own or _all_devices(accelerator, num_nodes, cluster, strategy)
    found = tuple(accelerator.get_parallel_devices(accelerator.parse_devices(devices)))
    if own and (len(own) != len(found) or (isinstance(devices, (list, tuple)) and own != found)):
        raise MisconfigurationException(
            f"devices={devices!r} was given, and the strategy has its own: {', '.join(map(str, own))}. Leave "
            "one of the two out."
        )
    return own or found


def _all_devices(
    accelerator: Accelerator, num_nodes: int, cluster: ClusterEnvironment, strategy: str | Strategy
) -> tuple[torch.device, ...]:
    """What "auto" means: as many as processes were started on this machine, or all there are."""
    started = _counted(cluster)
    if strategy == "single_device":
        wanted: Any = 1
    elif started and started % num_nodes == 0:
        wanted = cluster.local_world_size() or started // num_nodes
    elif is_interactive():
        wanted = 1
    else:
        wanted = accelerator.auto_device_count()
    try:
        return tuple(accelerator.get_parallel_devices(accelerator.parse_devices(wanted)))
    except MisconfigurationException as error:
        if not started:
            raise
        raise MisconfigurationException(
            f"With num_nodes={num_nodes}, {wanted} processes were started on this machine, and each needs a "
            f"device of its own: {error} Start as many as there are devices, or use accelerator='cpu'."
        ) from None


def _counted(cluster: ClusterEnvironment) -> int:
    """How many processes somebody else has started and counted; 0 where nobody has."""
    # this one learns the number later, from the strategy
    is_told = cluster.creates_processes_externally and not isinstance(cluster, LightningEnvironment)
    return cluster.world_size() if is_told else 0


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
_OPTIONS = ("ddp_find", "ddp_static")  # which the names of all ways to start processes have


def choose_strategy(
    strategy: str | Strategy,
    devices: tuple[torch.device, ...],
    num_nodes: int,
    accelerator: Accelerator,
    *,
    is_one: bool,
) -> Strategy:
    """How the model is laid over the devices, which may be a single one."""
    chosen = _made(strategy, devices, is_one=is_one)
    if not isinstance(chosen, ParallelStrategy) and len(devices) * num_nodes > 1:
        raise MisconfigurationException(
            f"{type(chosen).__name__} uses one device, and {len(devices)} on each of num_nodes={num_nodes} "
            "were asked for. Use strategy='ddp', or devices=1 and num_nodes=1."
        )
    if accelerator.name() == "mps" and isinstance(chosen, ParallelStrategy):
        asked = f"num_nodes={num_nodes}" if strategy == "auto" else f"strategy={_told(strategy)}"
        raise ValueError(
            f"{asked} is for several devices, and MPS devices can't work together. Leave it out, or use "
            "accelerator='cpu'."
        )
    chosen.accelerator = accelerator
    return chosen


def _made(strategy: Any, devices: tuple[torch.device, ...], *, is_one: bool) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    word = strategy.lower() if isinstance(strategy, str) and strategy not in StrategyRegistry else strategy
    if word == "single_device" or (word == "auto" and is_one):
        return SingleDeviceStrategy(devices[0])
    if word == "auto":
        word = "ddp_fork" if is_interactive() else "ddp"
    if word in StrategyRegistry:
        made: Strategy = StrategyRegistry.make(word)
        return made
    raise _no_strategy(strategy, word)


def _no_strategy(strategy: Any, word: Any) -> Exception:
    """Why there is no such strategy, and what there is."""
    if not isinstance(word, str):
        return _unknown_strategy(strategy)
    if word in _REMOVED_STRATEGIES:
        return ValueError(f"strategy={strategy!r} was removed. {_REMOVED_STRATEGIES[word]}.")
    if word.startswith(("xla", "single_xla", "single_tpu")):
        return MisconfigurationException(f"strategy={strategy!r} is for TPUs. {_OTHER_HARDWARE}.")
    if word.startswith(("fsdp", "deepspeed")):
        return MisconfigurationException(
            f"strategy={strategy!r} is not in this version of levin. Use strategy='ddp', with which each "
            "process has a whole copy of the model."
        )
    return _unknown_strategy(strategy)


def _unknown_strategy(strategy: Any) -> ValueError:
    known = ["auto", "single_device", *StrategyRegistry.available()]
    near = difflib.get_close_matches(str(strategy).lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if isinstance(strategy, type):
        hint = f" It is a class; an instance is needed: strategy={strategy.__name__}()."
    options = tuple(name.removeprefix("ddp") for name in known if name.startswith(_OPTIONS))
    shown = [name for name in known if name.startswith(_OPTIONS) or not name.endswith(options)]
    return ValueError(
        f"strategy={strategy!r} is not known.{hint} Known: {', '.join(map(repr, shown))} (and so with the "
        "other names that begin with 'ddp'), or an instance of levin.strategies.Strategy."
    )


def connect(
    strategy: Strategy, devices: tuple[torch.device, ...], num_nodes: int, cluster: ClusterEnvironment
) -> None:
    """Tell a strategy of several processes which devices there are, and where it is among them."""
    if isinstance(strategy, SingleDeviceStrategy):
        _warn_of_others(cluster)
    elif cluster.creates_processes_externally:
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


def _warn_of_others(cluster: ClusterEnvironment) -> None:
    """Say that other processes do the same, unless they have worked together before: then that is meant."""
    started = _counted(cluster)
    if started > 1 and not group.is_started():
        rank_zero_warn(
            f"{started} processes were started, and each of them does this run alone, with all of the data: "
            f"it is for one device. For a run of all of them leave devices out, or set it to their number on "
            "each machine.",
            category=PossibleUserWarning,
        )


def choose_layer_sync(strategy: Strategy, plugins: Plugins, *, sync_batchnorm: bool) -> None:
    """What batch norm is computed over: each process's batch, or all."""
    wanted = plugins.layer_sync
    if sync_batchnorm and wanted is not None and not isinstance(wanted, TorchSyncBatchNorm):
        raise MisconfigurationException(
            f"sync_batchnorm=True and the plugin {_told(wanted)} both choose what batch norm is computed "
            "over. Give one."
        )
    if isinstance(strategy, ParallelStrategy):
        strategy.layer_sync = wanted or (TorchSyncBatchNorm() if sync_batchnorm else None)
    elif sync_batchnorm:
        rank_zero_info("`sync_batchnorm=True` changes nothing on a single device.")


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
    _check_precision(wanted, strategy.root_device.type)
    strategy.set_precision(wanted)


def _check_precision(precision: Precision, device_type: str) -> None:
    if device_type == "mps" and precision.precision == "64-true":
        raise MisconfigurationException(
            "precision='64-true' needs numbers of 64 bits, which MPS devices don't have. Use '32-true', or "
            "accelerator='cpu'."
        )
    if isinstance(precision, MixedPrecision) and precision.device != device_type:
        rank_zero_warn(
            f"MixedPrecision({precision.precision!r}, {precision.device!r}) changes nothing on a "
            f"{device_type!r} device: the run computes in 32 bits. Leave the plugin out and use "
            f"precision={precision.precision!r}."
        )


def choose_checkpoint_io(strategy: Strategy, plugins: Plugins) -> None:
    """Give the strategy its way to the disk."""
    if plugins.checkpoint_io is None:
        return
    if strategy.brings_checkpoint_io:
        raise MisconfigurationException(
            f"The checkpoint_io {_told(plugins.checkpoint_io)} was given as a plugin, and the strategy has "
            f"its own: {_told(strategy.checkpoint_io)}. Leave one of the two out."
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
