from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import levin
from levin import utilities

SOURCE = Path(levin.__file__).parent

# What `lightning.pytorch.utilities` exports, and its sub-modules that programs import names from.
LIGHTNINGS = {
    "": "AttributeDict CombinedLoader GradClipAlgorithmType LightningEnum disable_possible_user_warnings "
    "find_shared_parameters grad_norm is_picklable is_shared_filesystem measure_flops move_data_to_device "
    "rank_zero_deprecation rank_zero_info rank_zero_only rank_zero_warn set_shared_parameters "
    "suggested_max_num_workers",
    "compile": "from_compiled to_uncompiled",
    "data": "extract_batch_size",
    "exceptions": "MisconfigurationException SIGTERMException",
    "memory": "garbage_collection_cuda is_cuda_out_of_memory is_cudnn_snafu is_oom_error "
    "is_out_of_cpu_memory recursive_detach",
    "model_helpers": "is_overridden",
    "model_summary": "DeepSpeedSummary LayerSummary ModelSummary get_formatted_model_size "
    "get_human_readable_count parse_batch_shape summarize",
    "rank_zero": "LightningDeprecationWarning rank_zero_debug",
    "seed": "isolate_rng",
    "types": "EVALUATE_OUTPUT EVAL_DATALOADERS LRSchedulerConfig LRSchedulerConfigType LRSchedulerPLType "
    "LRSchedulerTypeUnion OptimizerConfig OptimizerLRScheduler OptimizerLRSchedulerConfig STEP_OUTPUT "
    "Steppable TRAIN_DATALOADERS",
    "fabric": "Throughput apply_to_collection get_available_flops seed_everything PossibleUserWarning",
}
NAMES = " ".join(LIGHTNINGS.values()).split()


def names_under_type_checking() -> dict[str, str]:
    """Return name -> home, as a type checker sees it."""
    tree = ast.parse(Path(utilities.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {}
    for node in block.body:
        for alias in node.names:
            renamed = f":{alias.name}" if alias.asname else ""
            homes[alias.asname or alias.name] = f"{node.module}{renamed}"
    return homes


def test_the_names_are_those_that_programs_import():
    assert sorted(utilities.__all__) == sorted(NAMES)


def test_the_names_for_type_checkers_are_the_names_loaded_on_use():
    assert names_under_type_checking() == utilities._HOMES


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_thing_that_lives_in_its_home(name):
    home, _, there = utilities._HOMES[name].partition(":")
    assert getattr(utilities, name) is getattr(import_module(home), there or name)


def test_dir_lists_every_name():
    assert set(NAMES) <= set(dir(utilities))


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'gard_norm'.*grad_norm"):
        utilities.gard_norm  # noqa: B018  (looking it up is the test)


def test_it_is_an_attribute_of_the_package_and_loads_nothing_by_itself():
    program = "import sys, levin; levin.utilities; print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "False"


def test_nothing_else_in_the_package_goes_through_it():
    imports = re.compile(
        r"^\s*(from|import) levin\.utilities|^\s*from levin import .*\butilities\b", re.MULTILINE
    )
    assert not [file for file in SOURCE.rglob("*.py") if imports.search(file.read_text())]
