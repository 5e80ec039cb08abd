"""Help and signatures."""

import functools
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, TypedDict

import pytest

from co2.plugin.packages.signatures import MAX_HELP, help_of, signatures_of, takes


class Reading(TypedDict):
    value: int


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (int, "int"),
        (str, "string"),
        (bool, "boolean"),
        (float, "double"),
        (list[int], "array"),
        (tuple[int, str], "array"),
        (set, "array"),
        (dict[str, Any], "struct"),
        (Mapping[str, int], "struct"),
        (Reading, "struct"),
        (bytes, "base64"),
        (datetime, "dateTime.iso8601"),
        (None, "nil"),
        (Any, "any"),
        (int | None, "any"),
        (Optional[int], "any"),  # noqa: UP045
        (int | Literal[3], "int"),
        (Annotated[int, "of eggs"], "int"),
        (Literal["a", "b"], "string"),
        (Decimal, "any"),
        (object, "any"),
    ],
)
def test_type_hints_become_xml_rpc_types(hint: Any, name: str) -> None:
    def method(self: Any, data_dict: dict[str, Any]) -> Any: ...

    method.__annotations__["return"] = hint
    assert signatures_of(method) == [[name, "struct"]]


def test_no_hint_or_one_that_leads_nowhere_says_any() -> None:
    def silent(self, data_dict): ...  # type: ignore[no-untyped-def]

    def lost(self: Any, data_dict: Any) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821

    assert signatures_of(silent) == signatures_of(lost) == [["any", "struct"]]


def test_a_decorated_method_keeps_its_signature() -> None:
    def loudly(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @loudly
    def method(self: Any, data_dict: dict[str, Any]) -> bool: ...  # type: ignore[empty-body]

    assert signatures_of(method) == [["boolean", "struct"]]


def test_help_is_the_docstring_without_indentation_and_bounded() -> None:
    assert help_of("First.\n\n        Second.\n    ") == "First.\n\nSecond."
    assert help_of(None) == help_of(3) == ""
    assert len(help_of("x" * 2 * MAX_HELP)) == MAX_HELP


def test_takes() -> None:
    assert takes(lambda a: 0, 1)
    assert takes(lambda *a: 0, 3)
    assert takes(lambda a, b=1, *, c=2: 0, 1)
    assert not takes(lambda a, b: 0, 1)
    assert not takes(lambda a, *, b: 0, 1)
    assert not takes(lambda: 0, 1)
    assert not takes(3, 1)
