"""``x_`` methods with parameters: which ones have any, how they are filled, and what is refused."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from co2.errors import BadParams, PluginFailed
from co2.plugin.packages.typed_parameters import ArgumentRefused, ParametersRefused, parameters_of
from tests.plugin.support import carrying, write_package


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


class Reading(TypedDict):
    value: int


def fade(level: float, seconds: float = 1.0, *, curve: Literal["linear", "log"] = "linear") -> Any:
    return level, seconds, curve


def move(to: Point, /, when: datetime | None = None) -> Any:
    return to, when


def test_parameters_are_filled_by_name_and_checked() -> None:
    found = parameters_of(fade)
    assert found is not None
    call = found.bound(fade)
    assert call({"data": {"level": 1}}) == (1.0, 1.0, "linear")
    assert call({"data": {"curve": "log", "level": 0.5, "seconds": 2}, "channel": "x"}) == (0.5, 2.0, "log")
    assert found.text == "{level: double, seconds: double = 1.0, curve: string = 'linear'}"

    other = parameters_of(move)
    assert other is not None
    assert other.bound(move)({"data": {"to": {"x": 1}}}) == (Point(1.0), None)
    found_when = other.bound(move)({"data": {"to": {"x": 1}, "when": "2026-01-02T03:04:05"}})[1]
    assert found_when == datetime(2026, 1, 2, 3, 4, 5)
    assert other.text == "{to: Point, when: datetime.datetime | None = None}"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "level: is missing; 'data' should be {level: double"),
        (None, "level: is missing"),
        ({"level": "x"}, "level: expected 'float', got 'str'"),
        ({"level": True}, "level: expected 'float', got 'bool'"),
        ({"level": 1, "curve": "x"}, "curve: invalid enum value 'x'"),
        ({"level": 1, "second": 2}, "'second': unknown parameter; did you mean 'seconds'?"),
        ({"level": 1, 3: 2}, "'3': unknown parameter"),
        (0.5, "'data' should be {level: double, seconds: double = 1.0, curve: string = 'linear'}, found float"),
    ],
)
def test_an_argument_that_does_not_fit_names_the_parameter(data: Any, problem: str) -> None:
    found = parameters_of(fade)
    assert found is not None
    with pytest.raises(ArgumentRefused) as caught:
        found.bound(fade)({"data": data})
    assert str(caught.value).startswith(problem)


def test_the_place_inside_a_parameter_is_told() -> None:
    def draw(points: list[Point]) -> None: ...

    def at(point: Point) -> None: ...

    for function, data, problem in (
        (draw, {"points": [{"x": 1}, {"x": "a"}]}, "points[1].x: expected 'float', got 'str'"),
        (at, {"point": {"x": 1, "y": None}}, "point.y: expected 'float', got 'null'"),
        (at, {"point": {}}, "point: object missing required field 'x'"),
    ):
        found = parameters_of(function)
        assert found is not None
        with pytest.raises(ArgumentRefused) as caught:
            found.fill(data)
        assert str(caught.value) == problem


def test_a_path_is_text() -> None:
    def load(file: Path, more: list[Path] = []) -> None: ...  # noqa: B006

    found = parameters_of(load)
    assert found is not None
    assert found.fill({"file": "a.txt"}) == ([], {"file": Path("a.txt"), "more": []})
    for data, problem in (
        ({"file": 3}, "file: expected 'str', got 'int'"),
        ({"file": "a", "more": ["b", None]}, "more[1]: expected 'str', got 'NoneType'"),
    ):
        with pytest.raises(ArgumentRefused) as caught:
            found.fill(data)
        assert str(caught.value) == problem


def test_limits_in_annotations_count() -> None:
    def set_level(level: Annotated[float, msgspec.Meta(ge=0, le=1)]) -> None: ...

    found = parameters_of(set_level)
    assert found is not None
    with pytest.raises(ArgumentRefused, match="level: expected 'float' <= 1"):
        found.fill({"level": 1.5})


def takes_unannotated(data_dict): ...  # type: ignore[no-untyped-def]
def takes_dict(data_dict: dict[str, Any]) -> int: ...  # type: ignore[empty-body]
def takes_mapping(data: Mapping[str, int]) -> None: ...
def takes_typed_dict(data: Reading) -> None: ...
def takes_any(data: Any) -> None: ...
def takes_optional(data: dict[str, Any] | None) -> None: ...
def takes_more(data_dict, more=None): ...  # type: ignore[no-untyped-def]
def takes_lost(data_dict: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def takes_result_only(data_dict) -> str: ...  # type: ignore[no-untyped-def,empty-body]
def takes_nothing_unannotated(): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    "function",
    [
        takes_unannotated,
        takes_dict,
        takes_mapping,
        takes_typed_dict,
        takes_any,
        takes_optional,
        takes_more,
        takes_lost,
        takes_result_only,
        takes_nothing_unannotated,
        len,
        print,
    ],
)
def test_the_form_of_2003_gets_the_dictionary(function: Any) -> None:
    assert parameters_of(function) is None


def test_one_without_parameters_takes_nothing() -> None:
    def now() -> float:
        return 1.5

    found = parameters_of(now)
    assert found is not None
    assert found.bound(now)({"data": None}) == 1.5
    with pytest.raises(ArgumentRefused, match=r"should be \{\}"):
        found.fill({"x": 1})


def with_rest(level: float, *more: float) -> None: ...
def with_keywords(level: float, **more: float) -> None: ...
def half_annotated(level: float, seconds=1.0) -> None: ...  # type: ignore[no-untyped-def]
def lost(level: float, where: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def strange(level: float, thread: asyncio.Task) -> None: ...  # type: ignore[type-arg]


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (with_rest, "*more: float cannot be passed by name"),
        (with_keywords, "**more: float cannot be passed by name"),
        (half_annotated, "parameter 'seconds' has no annotation"),
        (lost, "cannot be resolved"),
        (strange, "parameter 'thread': no value of a message can be converted to Task"),
    ],
)
def test_parameters_that_cannot_be_filled_are_refused_at_load(function: Any, problem: str) -> None:
    with pytest.raises(ParametersRefused) as caught:
        parameters_of(function)
    assert problem in str(caught.value)


FADER = """
class X_Fader(plugin.Co2Plugin):
    def x_fade(self, level: float, seconds: float = 1.0) -> list[float]:
        '''Fade to a level.'''
        return [level, seconds]

    async def x_later(self, level: float) -> float:
        return level

    def x_wrong(self, level: float) -> None:
        raise plugin.errors.BadParams("of another call")
"""


def test_a_plugin_is_called_and_callers_see_what_it_takes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=FADER)]) as it:
            assert await it.call("ham.spam.fade", {"level": 1}) == [1.0, 1.0]
            assert await it.call("ham.spam.later", {"level": 0.5}) == 0.5
            with pytest.raises(BadParams, match=r"^ham\.spam\.fade: level: expected 'float', got 'str'$"):
                await it.call("ham.spam.fade", {"level": "x"})
            with pytest.raises(PluginFailed, match="of another call"):
                await it.call("ham.spam.wrong", {"level": 1})
            method = it.supervisor.methods["ham.spam.fade"]
            shape = "{level: double, seconds: double = 1.0}"
            assert method.signatures == [["array", f"struct {{data: {shape}}}"]]
            assert method.help == f"Fade to a level.\n\nTakes {{'data': {shape}}}."
            assert it.supervisor.methods["ham.spam.later"].help == "Takes {'data': {level: double}}."
            await it.until(lambda: "of another call" in it.log.text)
            assert "got 'str'" not in it.log.text, "a caller's mistake is no error of the plugin"

    asyncio.run(scenario())


def test_a_package_with_such_a_method_is_refused_with_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = "class X_Ham(plugin.Co2Plugin):\n    def x_it(self, level: float, more): ...\n"
        async with carrying([write_package(tmp_path, "ham", spam=code)]) as it:
            error = it.status("ham").last_error
            assert "spam.py:3, class X_Ham: X_Ham.x_it: parameter 'more' has no annotation" in error

    asyncio.run(scenario())
