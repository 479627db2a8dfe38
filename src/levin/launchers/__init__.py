"""Start the other processes of a run: the script again (`script`), or a function (`functions`)."""

from __future__ import annotations

from levin.launchers.base import Launcher
from levin.launchers.functions import START_METHODS, FunctionLauncher
from levin.launchers.script import ScriptLauncher
from levin.utils.lazy import load_on_use

__all__ = ["START_METHODS", "FunctionLauncher", "Launcher", "ScriptLauncher"]

load_on_use(__name__, {})
