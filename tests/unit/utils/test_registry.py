from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from levin.utils import registry as registry_module
from levin.utils.registry import Registry


class Thing:
    def __init__(self, size: int = 1, color: str = "red") -> None:
        self.size, self.color = size, color


@pytest.fixture
def things() -> Registry[Thing]:
    registry: Registry[Thing] = Registry("thing")
    registry.register("big", Thing, "A big thing.", size=10)
    return registry


def test_a_factory_is_called_with_its_registered_arguments(things):
    thing = things.make("big", color="blue")
    assert (thing.size, thing.color) == (10, "blue")


def test_arguments_of_the_call_win_over_registered_ones(things):
    assert things.get("big")(size=3).size == 3


def test_register_decorates_a_class_and_returns_it(things):
    @things.register("small", size=0)
    class Small(Thing): ...

    assert isinstance(things.make("small"), Small)


def test_a_name_is_taken_only_once(things):
    with pytest.raises(ValueError, match=r"'big' is registered already.*Thing.*override=True"):
        things.register("big", Thing)


def test_override_replaces(things):
    things.register("big", Thing, override=True, size=99)
    assert things.make("big").size == 99


def test_an_unknown_name_gets_a_near_one(things):
    with pytest.raises(KeyError, match=r"thing 'bigg' is not known. Did you mean 'big'\? Known: 'big'"):
        things.get("bigg")


def test_a_default_replaces_the_error(things):
    assert things.get("nothing", None) is None


def test_a_removed_name_is_unknown(things):
    things.remove("big")
    assert "big" not in things
    assert things.available() == []
    with pytest.raises(KeyError, match="Known: none"):
        things.remove("big")


def test_names_are_sorted_and_described(things):
    things.register("another", Thing)
    assert list(things) == things.available() == ["another", "big"]
    assert things.describe() == {"another": "", "big": "A big thing."}
    assert len(things) == 2
    assert repr(things) == "Registry('thing': another, big)"


def test_entry_points_are_added_at_the_first_look_and_imported_at_the_first_use(monkeypatch):
    looks = []

    def entry_points(group: str) -> list[EntryPoint]:
        looks.append(group)
        return [
            EntryPoint("counter", "collections:Counter", group),
            EntryPoint("broken", "no_such_package:Thing", group),
            EntryPoint("own", "collections:OrderedDict", group),
        ]

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    mappings: Registry[dict] = Registry("mapping", entry_point_group="test.mappings")
    mappings.register("own", dict)
    assert looks == []
    assert mappings.available() == ["broken", "counter", "own"]
    assert type(mappings.make("own")) is dict
    assert mappings.make("counter", a=2).total() == 2
    assert looks == ["test.mappings"]
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        mappings.make("broken")
