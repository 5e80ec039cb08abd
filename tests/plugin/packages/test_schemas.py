"""JSON Schema of methods, configurations and what is sent: limits, and types that have none."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest

from co2.errors import LoadError, NoSuchMethod, PluginFailed
from co2.plugin.packages.schemas import MAX_SCHEMA, config_schema, method_schema, sends_problem, sent_schemas
from co2.plugin.packages.typed_parameters import parameters_of
from co2.protocol.wire.channel_patterns import MAX_PATTERNS
from tests.plugin.support import carrying, write_package


class Point(msgspec.Struct):
    x: float


class Odd:
    """Nothing that a message can have."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Deep(msgspec.Struct):
    folder: Path = Path("x")


MANY = Literal[tuple(f"a rather long choice, number {number}" for number in range(3000))]  # type: ignore[valid-type]


def described(function: Callable[..., Any]) -> dict[str, Any]:
    found = method_schema(function, parameters_of(function))
    for schema in (found["parameters"], found["result"]):
        jsonschema.Draft202012Validator.check_schema(schema)
        json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()
    return found


def one_of(hint: Any) -> dict[str, Any]:
    """The schema of a parameter of this type, beside one that is sound."""

    def method(sound: float, it: Any = 0) -> None: ...

    method.__annotations__["it"] = hint
    properties: dict[str, Any] = described(method)["parameters"]["properties"]
    assert properties["sound"] == {"type": "number"}
    return properties["it"]


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        (list[Odd], "Odd"),
        (Deep, "PosixPath"),
        (Annotated[float, msgspec.Meta(extra_json_schema={"default": float("nan")})], "not JSON compliant"),
        (Annotated[float, msgspec.Meta(description="\udcff")], "surrogates not allowed"),
    ],
)
def test_a_type_without_a_schema_accepts_everything_and_says_why(hint: Any, problem: str) -> None:
    found = one_of(hint)
    assert found.pop("description").startswith("not described: ")
    assert found == {"default": 0}
    assert problem in one_of(hint)["description"]


def test_a_nesting_without_end_accepts_everything() -> None:
    nested: Any = int
    for _ in range(3000):
        nested = list[nested]
    found = sent_schemas({"a": nested, "b": Point})
    assert "description" in found["a"]
    assert found["b"]["$ref"] == "#/$defs/Point"


def test_defaults_that_json_cannot_have_are_left_out_but_the_parameter_may_be_too() -> None:
    def method(
        odd: Any = Odd(),  # noqa: B008
        endless: float = float("inf"),
        path: Path = Path("a/b"),
        point: Point = Point(1.0),  # noqa: B008
        raw: bytes = b"\x00\xff",
        lone: str = "\ud800",
        nothing: float | None = None,
    ) -> None: ...

    found = method_schema(method, parameters_of(method))["parameters"]
    assert found["required"] == []
    assert {name: one["default"] for name, one in found["properties"].items() if "default" in one} == {
        "path": "a/b",
        "point": {"x": 1.0},
        "raw": "AP8=",
        "nothing": None,
    }


def test_a_schema_that_is_too_large_is_left_out_and_says_so() -> None:
    def method(choice: MANY, level: float = 1.0) -> MANY:  # type: ignore[valid-type]
        return choice

    found = described(method)
    for schema in (found["parameters"], found["result"]):
        assert [*schema] == ["description"]
        assert f"the limit is {MAX_SCHEMA}" in schema["description"]
    parameters = parameters_of(method)
    assert parameters is not None
    assert parameters.fill({"choice": "a rather long choice, number 7"}) == (
        [],
        {"choice": "a rather long choice, number 7", "level": 1.0},
    )


def test_a_result_without_a_type_is_anything() -> None:
    def silent(level: float): ...  # type: ignore[no-untyped-def]

    def lost(data_dict: Any) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821

    assert described(silent)["result"] == described(lost)["result"] == {}
    assert described(lost)["parameters"] == {}


class Small(msgspec.Struct):
    """One key."""

    port: int


@dataclasses.dataclass
class Large:
    port: Annotated[int, msgspec.Meta(le=9)]
    names: list[str] = dataclasses.field(default_factory=list)
    made: str = dataclasses.field(default_factory=lambda: pytest.fail("a factory was called"))


class Renamed(msgspec.Struct, rename="camel"):
    the_port: int = 1


def test_the_configuration_of_several_plugins_has_the_keys_of_all() -> None:
    found = config_schema([Small, Large, Small])
    jsonschema.Draft202012Validator.check_schema(found)
    assert list(found["properties"]) == ["port", "names", "made"]
    assert (found["required"], found["additionalProperties"]) == (["port"], False)
    accepts = jsonschema.Draft202012Validator(found).is_valid
    assert [accepts({"port": port}) for port in (9, 10)] == [True, False]
    assert found["properties"]["names"]["default"] == []
    assert "default" not in found["properties"]["made"]
    assert "description" not in found
    assert config_schema([Small])["description"] == "One key."
    assert "description" not in config_schema([Large])
    assert list(config_schema([Renamed])["properties"]) == ["thePort"]
    # A plugin that takes the dictionary may read any key.
    assert config_schema([Small, None])["additionalProperties"] is True
    assert config_schema([None]) == config_schema([]) == {"type": "object"}


@pytest.mark.parametrize(
    ("sends", "problem"),
    [
        ({}, ""),
        ({"stage.*": float, "lab.>": Point, "none": None}, ""),
        ({3: float}, "found 3, expected text"),
        ({"stage.": float}, "stage."),
        ({"a>": float}, "must be whole tokens"),
        ({f"a.{number}": float for number in range(MAX_PATTERNS + 1)}, f"the limit is {MAX_PATTERNS}"),
        ({"a": 5}, "'a': 5 cannot be described (Type '5' is not supported); expected a type such as float"),
        ({"a": "Point"}, "'a': 'Point' cannot be described"),
        ({"a": Odd}, "cannot be described"),
        ({"a": MANY}, f"bytes; the limit is {MAX_SCHEMA}"),
    ],
)
def test_what_is_sent_is_checked(sends: Any, problem: str) -> None:
    found = sends_problem(sends)
    assert problem in found
    assert bool(found) == bool(problem)


def test_a_wrong_sends_refuses_the_package_with_its_line(tmp_path: Path) -> None:
    code = "class X_Ham(plugin.Co2Plugin):\n    sends = {'stage.*': 5}\n    def x_it(self, data_dict): ...\n"

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            status = it.status("ham")
            assert status.state == "failed"
            assert f"{tmp_path}/ham/spam.py:3, class X_Ham: X_Ham.sends: 'stage.*': 5 cannot" in status.last_error

    asyncio.run(scenario())


def test_a_unit_of_no_parameter_refuses_the_package_with_its_line(tmp_path: Path) -> None:
    code = """
        class X_Ham(plugin.Co2Plugin):
            @plugin.marks(unit={"levle": "dB"})
            def x_it(self, level: float) -> float: ...
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            error = it.status("ham").last_error
            assert f"{tmp_path}/ham/spam.py:4, class X_Ham" in error
            assert "X_Ham.x_it: unit of 'levle': expected one of level, return" in error

    asyncio.run(scenario())


def test_wrong_marks_refuse_the_package_with_their_line(tmp_path: Path) -> None:
    code = """
        class X_Ham(plugin.Co2Plugin):
            @plugin.marks(danger="very")
            def x_it(self, level: float) -> float: ...
    """

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            error = it.status("ham").last_error
            assert f"{tmp_path}/ham/spam.py:4" in error
            assert "danger: found 'very', expected 'look', 'touch', 'harm'" in error

    asyncio.run(scenario())


OF_BEFORE = """
class X_Ham(plugin.Co2Plugin):
    sends = 0

    @plugin.marks(danger="look")
    def receive(self, data_dict):
        self.sends += 1
"""


def test_an_attribute_of_the_same_name_and_marks_elsewhere_are_reported_but_do_no_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=OF_BEFORE)]) as it:
            assert it.state("ham") == "running"
            assert "X_Ham.sends has no effect: found int, expected a dictionary" in it.log.text
            assert "X_Ham.receive: plugin.marks has no effect: it is for x_ methods" in it.log.text
            assert await it.supervisor.describe("ham", "sends") == []

    asyncio.run(scenario())


HOSTILE = """
import dataclasses, time

class Meta(type):
    @property
    def __doc__(cls):
        raise SystemExit("no text")

class Choice(metaclass=Meta):
    one: int

    def __init__(self, one):
        self.one = one

Choice.__dataclass_fields__ = dataclasses.make_dataclass("C", [("one", int)]).__dataclass_fields__

class X_Ham(plugin.Co2Plugin):
    def x_choose(self, choice: Choice) -> int:
        return choice.one

    def x_busy(self, seconds: float) -> None:
        self.send({"data": "busy"})
        time.sleep(seconds)
"""


def test_whatever_types_do_the_caller_has_an_answer_and_the_plugin_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=HOSTILE)]) as it:
            with pytest.raises(PluginFailed, match=r"^ham\.spam\.choose: no schema: SystemExit: no text$"):
                await it.supervisor.describe_method("ham.spam.choose")
            assert await it.call("ham.spam.choose", {"choice": {"one": 1}}) == 1
            assert it.status("ham").restarts == 0

    asyncio.run(scenario())


def test_a_busy_plugin_delays_no_schema(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=HOSTILE)]) as it:
            busy = asyncio.create_task(it.call("ham.spam.busy", {"seconds": 60}))
            await it.until(lambda: it.sent() == ["busy"])
            found = await it.supervisor.describe_method("ham.spam.busy")
            assert found["parameters"]["required"] == ["seconds"]
            assert not busy.done()
            busy.cancel()
            await it.stop(0.1)

    asyncio.run(scenario())


def test_what_is_not_there_or_does_not_run_has_no_schema(tmp_path: Path) -> None:
    async def scenario() -> None:
        broken = write_package(tmp_path, "broken", spam="raise ValueError")
        async with carrying([write_package(tmp_path, "ham", spam=HOSTILE), broken]) as it:
            for name in ("ham.spam.nope", "nope.spam.busy"):
                with pytest.raises(NoSuchMethod):
                    await it.supervisor.describe_method(name)
            with pytest.raises(LoadError, match="not loaded"):
                await it.supervisor.describe("nope", "config")
            with pytest.raises(PluginFailed, match="config of broken: the plugin package broken is failed"):
                await it.supervisor.describe("broken", "config")
            assert await it.supervisor.describe("ham", "config") == {"type": "object"}

    asyncio.run(scenario())


def test_new_code_has_its_new_schema(tmp_path: Path) -> None:
    code = "class X_Ham(plugin.Co2Plugin):\n    def x_it(self, {}: float) -> float: ...\n"

    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=code.format("level"))
        async with carrying([spec]) as it:
            reload = asyncio.create_task(
                it.supervisor.reload(write_package(tmp_path, "ham", spam=code.format("x")))
            )
            while not reload.done():
                # Whenever it is asked, there is an answer of one of the two.
                found = await it.supervisor.describe_method("ham.spam.it")
                assert found["parameters"]["required"] in (["level"], ["x"])
            await reload
            found = await it.supervisor.describe_method("ham.spam.it")
            assert found["parameters"]["required"] == ["x"]

    asyncio.run(scenario())
