"""The helpers that programs import from ``lightning.pytorch.utilities``, in one place.

Each lives elsewhere, by what it is for, and is loaded when it is first asked for. No other module of levin
imports this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from levin.utils.lazy import load_on_use

if TYPE_CHECKING:
    from levin.core.export import from_compiled, to_uncompiled
    from levin.core.metrics import batch_size_of as extract_batch_size
    from levin.data.combined import CombinedLoader
    from levin.utils.apply import apply_to_collection, move_data_to_device
    from levin.utils.enums import GradClipAlgorithmType, LightningEnum
    from levin.utils.errors import LevinDeprecationWarning as LightningDeprecationWarning
    from levin.utils.errors import MisconfigurationException, PossibleUserWarning, SIGTERMException
    from levin.utils.memory import (
        garbage_collection_cuda,
        is_cuda_out_of_memory,
        is_cudnn_snafu,
        is_oom_error,
        is_out_of_cpu_memory,
        recursive_detach,
    )
    from levin.utils.model_summary import (
        DeepSpeedSummary,
        LayerSummary,
        ModelSummary,
        get_formatted_model_size,
        get_human_readable_count,
        parse_batch_shape,
        summarize,
    )
    from levin.utils.overrides import is_overridden
    from levin.utils.parameters import find_shared_parameters, grad_norm, set_shared_parameters
    from levin.utils.rank import (
        disable_possible_user_warnings,
        rank_zero_debug,
        rank_zero_deprecation,
        rank_zero_info,
        rank_zero_only,
        rank_zero_warn,
    )
    from levin.utils.seed import isolate_rng, seed_everything
    from levin.utils.throughput import Throughput, get_available_flops, measure_flops
    from levin.utils.types import (
        EVAL_DATALOADERS,
        EVALUATE_OUTPUT,
        STEP_OUTPUT,
        TRAIN_DATALOADERS,
        AttributeDict,
        LRSchedulerConfig,
        LRSchedulerConfigType,
        LRSchedulerPLType,
        LRSchedulerTypeUnion,
        OptimizerConfig,
        OptimizerLRScheduler,
        OptimizerLRSchedulerConfig,
        Steppable,
    )
    from levin.utils.workers import is_picklable, is_shared_filesystem, suggested_max_num_workers

__all__ = [
    "EVALUATE_OUTPUT",
    "EVAL_DATALOADERS",
    "STEP_OUTPUT",
    "TRAIN_DATALOADERS",
    "AttributeDict",
    "CombinedLoader",
    "DeepSpeedSummary",
    "GradClipAlgorithmType",
    "LRSchedulerConfig",
    "LRSchedulerConfigType",
    "LRSchedulerPLType",
    "LRSchedulerTypeUnion",
    "LayerSummary",
    "LightningDeprecationWarning",
    "LightningEnum",
    "MisconfigurationException",
    "ModelSummary",
    "OptimizerConfig",
    "OptimizerLRScheduler",
    "OptimizerLRSchedulerConfig",
    "PossibleUserWarning",
    "SIGTERMException",
    "Steppable",
    "Throughput",
    "apply_to_collection",
    "disable_possible_user_warnings",
    "extract_batch_size",
    "find_shared_parameters",
    "from_compiled",
    "garbage_collection_cuda",
    "get_available_flops",
    "get_formatted_model_size",
    "get_human_readable_count",
    "grad_norm",
    "is_cuda_out_of_memory",
    "is_cudnn_snafu",
    "is_oom_error",
    "is_out_of_cpu_memory",
    "is_overridden",
    "is_picklable",
    "is_shared_filesystem",
    "isolate_rng",
    "measure_flops",
    "move_data_to_device",
    "parse_batch_shape",
    "rank_zero_debug",
    "rank_zero_deprecation",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "recursive_detach",
    "seed_everything",
    "set_shared_parameters",
    "suggested_max_num_workers",
    "summarize",
    "to_uncompiled",
]

# The same names as under TYPE_CHECKING, and where each lives; after a colon, the name it has there.
_HOMES = {
    "AttributeDict": "levin.utils.types",
    "CombinedLoader": "levin.data.combined",
    "DeepSpeedSummary": "levin.utils.model_summary",
    "EVALUATE_OUTPUT": "levin.utils.types",
    "EVAL_DATALOADERS": "levin.utils.types",
    "GradClipAlgorithmType": "levin.utils.enums",
    "LRSchedulerConfig": "levin.utils.types",
    "LRSchedulerConfigType": "levin.utils.types",
    "LRSchedulerPLType": "levin.utils.types",
    "LRSchedulerTypeUnion": "levin.utils.types",
    "LayerSummary": "levin.utils.model_summary",
    "LightningDeprecationWarning": "levin.utils.errors:LevinDeprecationWarning",
    "LightningEnum": "levin.utils.enums",
    "MisconfigurationException": "levin.utils.errors",
    "ModelSummary": "levin.utils.model_summary",
    "OptimizerConfig": "levin.utils.types",
    "OptimizerLRScheduler": "levin.utils.types",
    "OptimizerLRSchedulerConfig": "levin.utils.types",
    "PossibleUserWarning": "levin.utils.errors",
    "SIGTERMException": "levin.utils.errors",
    "STEP_OUTPUT": "levin.utils.types",
    "Steppable": "levin.utils.types",
    "TRAIN_DATALOADERS": "levin.utils.types",
    "Throughput": "levin.utils.throughput",
    "apply_to_collection": "levin.utils.apply",
    "disable_possible_user_warnings": "levin.utils.rank",
    "extract_batch_size": "levin.core.metrics:batch_size_of",
    "find_shared_parameters": "levin.utils.parameters",
    "from_compiled": "levin.core.export",
    "garbage_collection_cuda": "levin.utils.memory",
    "get_available_flops": "levin.utils.throughput",
    "get_formatted_model_size": "levin.utils.model_summary",
    "get_human_readable_count": "levin.utils.model_summary",
    "grad_norm": "levin.utils.parameters",
    "is_cuda_out_of_memory": "levin.utils.memory",
    "is_cudnn_snafu": "levin.utils.memory",
    "is_oom_error": "levin.utils.memory",
    "is_out_of_cpu_memory": "levin.utils.memory",
    "is_overridden": "levin.utils.overrides",
    "is_picklable": "levin.utils.workers",
    "is_shared_filesystem": "levin.utils.workers",
    "isolate_rng": "levin.utils.seed",
    "measure_flops": "levin.utils.throughput",
    "move_data_to_device": "levin.utils.apply",
    "parse_batch_shape": "levin.utils.model_summary",
    "rank_zero_debug": "levin.utils.rank",
    "rank_zero_deprecation": "levin.utils.rank",
    "rank_zero_info": "levin.utils.rank",
    "rank_zero_only": "levin.utils.rank",
    "rank_zero_warn": "levin.utils.rank",
    "recursive_detach": "levin.utils.memory",
    "seed_everything": "levin.utils.seed",
    "set_shared_parameters": "levin.utils.parameters",
    "suggested_max_num_workers": "levin.utils.workers",
    "summarize": "levin.utils.model_summary",
    "to_uncompiled": "levin.core.export",
}

load_on_use(__name__, _HOMES)

__path__: list[str] = []  # no sub-modules, but an import of a former one is explained
