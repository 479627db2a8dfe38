"""Objects made of what argparse has read, as programs for earlier versions make them."""

from __future__ import annotations

import argparse
import ast
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from levin.utils.former import NOT_YET
from levin.utils.former_members import had
from levin.utils.rank import rank_zero_deprecation

_ADVICE = f"`LightningCLI`, {NOT_YET}, will read the arguments of classes."
_WORDS = {"true": True, "false": False}


@had(
    get_init_arguments_and_types="Use `inspect.signature` of the class.",
    get_deprecated_arg_names="There are none: former arguments are told where they are given.",
    match_env_arguments="The Trainer reads variables such as PL_TRAINER_MAX_EPOCHS when it is made.",
)
class FromNamespace:
    """Gives a class the class methods for argparse that it had: they work, and warn.

    Attributes:
        former_arguments: Former names of arguments of ``__init__`` that it still takes.
    """

    former_arguments: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:  # no part of today's classes

        @classmethod
        def from_argparse_args(cls, args: argparse.Namespace | argparse.ArgumentParser, **kwargs: Any) -> Any:
            """An object of those entries of a namespace that its ``__init__`` takes.

            Args:
                args: The namespace, or a parser, which then reads the command line.
                **kwargs: Arguments that win over the namespace's.
            """
            _tell(cls, "from_argparse_args", f"Write `{cls.__name__}(**settings)`.")
            given = vars(args.parse_args() if isinstance(args, argparse.ArgumentParser) else args)
            known = inspect.signature(cls).parameters
            # defaults are left out: a former argument may say the same as one of them
            taken = {
                name: given[name]
                for name, each in known.items()
                if name in given and given[name] != each.default
            }
            former = {name: given[name] for name in cls.former_arguments if given.get(name) is not None}
            return cls(**{**taken, **former, **kwargs})

        @classmethod
        def add_argparse_args(
            cls, parent_parser: argparse.ArgumentParser, **_: Any
        ) -> argparse.ArgumentParser:
            """Give a parser an option for each argument of ``__init__``; those that it has stay."""
            _tell(cls, "add_argparse_args", "Write `parser.add_argument` for those that you need.")
            group = parent_parser.add_argument_group(cls.__name__)
            for name, default, kind in _options(cls):
                switch = {"nargs": "?", "const": True} if "bool" in kind else {}
                try:
                    group.add_argument(f"--{name}", type=literal, default=default, **switch)
                except argparse.ArgumentError:  # the user has such an option of his own
                    continue
            return parent_parser

        @classmethod
        def parse_argparser(cls, arg_parser: argparse.ArgumentParser) -> argparse.Namespace:
            """What a parser reads from the command line."""
            _tell(cls, "parse_argparser", "Write `parser.parse_args()`.")
            return arg_parser.parse_args()

        @classmethod
        def default_attributes(cls) -> dict[str, Any]:
            """The arguments of ``__init__`` and their defaults."""
            _tell(cls, "default_attributes", f"Write `inspect.signature({cls.__name__}).parameters`.")
            return {name: each.default for name, each in inspect.signature(cls).parameters.items()}


def _tell(cls: type, name: str, advice: str) -> None:
    rank_zero_deprecation(f"`{cls.__name__}.{name}` is of earlier versions. {advice} {_ADVICE}")


def _options(cls: type[FromNamespace]) -> list[tuple[str, Any, str]]:
    """The arguments of a class: name, default and type."""
    options = [
        (name, None if each.default is each.empty else each.default, str(each.annotation))
        for name, each in inspect.signature(cls).parameters.items()
    ]
    return [*options, *((name, None, "") for name in cls.former_arguments)]


def literal(text: str) -> Any:
    """The value that a text stands for: a number, a list, true, None, ..., or the text itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
