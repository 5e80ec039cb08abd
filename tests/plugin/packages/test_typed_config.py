"""``self.config`` as a type of the author's own: what fits, and how it is said what does not."""

import asyncio
import dataclasses
import types
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from co2 import plugin
from co2.errors import ConfigError
from co2.plugin.packages.typed_config import Configs
from tests.plugin.support import carrying, write_package


class Port(msgspec.Struct):
    name: str
    baud: int = 9600


class Settings(msgspec.Struct):
    loudness: Annotated[int, msgspec.Meta(ge=0, le=11)] = 3
    folder: Path = Path("sounds")
    ports: list[Port] = []
    by_name: dict[str, Port] = {}


@dataclasses.dataclass
class Other:
    host: str
    loudness: int = 5


def kind(form: Any = None) -> type[plugin.Co2Plugin]:
    return type("X_Ham", (plugin.Co2Plugin,), {} if form is None else {"Config": form})


def configs(table: dict[str, Any], *kinds: type[plugin.Co2Plugin], package: Any = None) -> Configs:
    module = types.ModuleType("ham")
    if package is not None:
        module.Config = package  # type: ignore[attr-defined]
    return Configs("ham", table, "/etc/co2.toml", module, kinds)


def read(table: dict[str, Any], *kinds: type[plugin.Co2Plugin], package: Any = None) -> list[Any]:
    made = configs(table, *kinds, package=package)
    made.check()
    return [made.of(one) for one in kinds]


def refused(table: dict[str, Any], *kinds: type[plugin.Co2Plugin], package: Any = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(table, *kinds, package=package)
    return str(caught.value)


def test_without_a_form_it_stays_a_dictionary_of_its_own() -> None:
    one, two = read({"any": [1]}, kind(), kind())
    assert one == two == {"any": [1]}
    assert one is not two


def test_a_struct_or_a_dataclass_is_filled_and_has_its_defaults() -> None:
    assert read({}, kind(Settings)) == [Settings()]
    table = {"loudness": 11, "folder": "x/y", "ports": [{"name": "a"}]}
    assert read(table, kind(Settings)) == [Settings(11, Path("x/y"), [Port("a")])]
    assert read({"host": "h"}, kind(Other)) == [Other("h")]


def test_the_package_may_say_it_for_all_its_plugins_and_a_class_for_itself() -> None:
    table = {"host": "h", "loudness": 7}
    assert read(table, kind(), kind(), package=Other) == [Other("h", 7), Other("h", 7)]
    assert read(table, kind(Settings), kind(), package=Other) == [Settings(7), Other("h", 7)]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"loudnes": 3}, " loudnes: unknown key; did you mean 'loudness'?"),
        ({"q": 3}, " q: unknown key; the keys are: by_name, folder, loudness, ports"),
        ({"loudness": "x"}, " loudness: expected 'int', got 'str'"),
        ({"folder": 3}, " folder: expected 'str', got 'int'"),
        ({"loudness": 12}, " loudness: expected 'int' <= 11, found 12"),
        ({"ports": [{"name": "a", "baut": 1}]}, " ports[0].baut: unknown key; did you mean 'baud'?"),
        ({"ports": [{"baud": 1}]}, " ports[0]: object missing required field 'name'"),
        ({"ports": [{"name": 1}]}, " ports[0].name: expected 'str', got 'int'"),
        ({"by_name": {"x": {"name": "a", "y": 1}}}, " by_name.x.y: unknown key; the keys are: baud, name"),
    ],
)
def test_what_is_wrong_is_told_with_file_table_key_and_what_was_expected(
    table: dict[str, Any], problem: str
) -> None:
    assert refused(table, kind(Settings)) == f"/etc/co2.toml: [plugin.ham]{problem}"


def test_a_missing_key_is_named() -> None:
    assert refused({}, kind(Other)) == "/etc/co2.toml: [plugin.ham]: object missing required field 'host'"


def test_a_key_is_unknown_where_no_plugin_of_the_package_knows_it() -> None:
    assert "did you mean 'folder'" in refused({"host": "h", "foldr": 1}, kind(Settings), kind(Other))
    one, two = read({"host": "h", "foldr": 1}, kind(), kind(Other))
    assert (one, two) == ({"host": "h", "foldr": 1}, Other("h"))


@pytest.mark.parametrize("form", [3, dict, "Settings", Other("h")])
def test_what_is_no_form_is_refused(form: Any) -> None:
    assert "expected a msgspec.Struct or a dataclass" in refused({}, kind(form))


def test_a_form_that_cannot_be_checked_is_refused() -> None:
    class Strange(msgspec.Struct):
        value: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    assert "X_Ham.Config: its fields cannot be checked" in refused({}, kind(Strange))


def test_a_package_is_refused_with_the_place_and_another_one_has_what_it_wants(tmp_path: Path) -> None:
    code = """
    import msgspec
    class X_Ham(plugin.Co2Plugin):
        class Config(msgspec.Struct):
            loudness: int = 3
        config: Config
        def x_loudness(self, data_dict):
            return self.config.loudness
    """

    async def scenario() -> None:
        specs = [
            write_package(tmp_path, "ham", {"loudness": 11}, spam=code),
            write_package(tmp_path, "eggs", {"loudness": "11"}, spam=code),
        ]
        async with carrying(specs) as it:
            assert await it.call("ham.spam.loudness") == 11
            assert it.state("eggs") == "failed"
            assert "[plugin.eggs] loudness: expected 'int', got 'str'" in it.status("eggs").last_error

    asyncio.run(scenario())
