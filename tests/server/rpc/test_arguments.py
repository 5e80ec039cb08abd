"""The one dictionary that a method takes: what is in it, or a fault that says what would be."""

import math
from typing import Any

import pytest

from co2.errors import BadParams, IdentityRefused
from co2.host_id import HostId
from co2.server.rpc.arguments import callers_host_id, host_id_of, integer, number, one_dict, text
from co2.xmlrpc.registry import Caller


def test_one_dictionary_is_returned_as_it_is() -> None:
    argument = {"data": [1, 2]}
    assert one_dict([argument]) is argument


@pytest.mark.parametrize(
    ("params", "found"),
    [([], "got nothing"), (["x"], "got str"), ([{}, {}], "got dict, dict"), ([1] * 9, "got int, int, int, int")],
)
def test_anything_else_is_refused_with_the_types_of_the_first_four(params: list[Any], found: str) -> None:
    with pytest.raises(BadParams) as refused:
        one_dict(params)
    assert str(refused.value).endswith(f"expected exactly one argument of type dictionary (struct), {found}")


def test_a_text_may_be_as_long_as_its_limit() -> None:
    assert text({"a": "x" * 256}, "a") == "x" * 256
    with pytest.raises(BadParams):
        text({"a": "x" * 257}, "a")
    assert text({"a": "x"}, "a", 1) == "x"


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ({}, "nothing"),
        ({"a": None}, "nothing"),
        ({"a": ""}, "str ''"),
        ({"a": "xyz"}, "str 'xyz'"),
        ({"a": 1}, "int 1"),
        ({"a": b"x"}, "bytes b'x'"),
        ({"a": "y" * 1000}, "str 'yyy"),
    ],
)
def test_what_is_no_such_text_is_refused_in_few_words(argument: dict[str, Any], found: str) -> None:
    with pytest.raises(BadParams) as refused:
        text(argument, "a", 2)
    said = str(refused.value)
    assert f"key 'a': expected a string of 1 to 2 characters, got {found}" in said
    assert len(said) < 200


@pytest.mark.parametrize("value", [1, 2, 7])
def test_a_number_may_be_at_its_bounds(value: int) -> None:
    assert integer({"a": value}, "a", 3, 1, 7) == value
    assert number({"a": value}, "a", 3, 1, 7) == value
    assert isinstance(number({"a": value}, "a", 3, 1, 7), float)
    assert number({"a": value - 0.5}, "a", 3, 0.5, 7) == value - 0.5


def test_one_that_is_missing_has_its_default() -> None:
    assert integer({}, "a", 3, 1, 7) == 3
    assert number({}, "a", 3.5, 1, 7) == 3.5


@pytest.mark.parametrize("value", [0, 8, -(2**63), True, False, "3", None, [3]])
def test_what_is_no_such_number_is_refused(value: Any) -> None:
    with pytest.raises(BadParams, match="key 'a': expected an integer from 1 to 7, got"):
        integer({"a": value}, "a", 3, 1, 7)
    with pytest.raises(BadParams, match="key 'a': expected a number from 1 to 7, got"):
        number({"a": value}, "a", 3, 1, 7)


@pytest.mark.parametrize("value", [0.99, 7.01, math.nan, math.inf, -math.inf])
def test_a_fraction_is_a_number_within_the_bounds_only_and_never_an_integer(value: float) -> None:
    with pytest.raises(BadParams):
        number({"a": value}, "a", 3, 1, 7)
    for any_value in (value, 3.0, 3.5):
        with pytest.raises(BadParams):
            integer({"a": any_value}, "a", 3, 1, 7)


def test_a_host_id_is_parsed() -> None:
    assert host_id_of({"host_id": "ham@10.0.0.7:2004"}) == HostId("ham", "10.0.0.7", 2004)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({}, "is missing; relay.register at the relay returns one"),
        ({"host_id": None}, "is missing"),
        ({"host_id": 7}, "got int 7"),
        ({"host_id": "ham"}, "not a host_id: 'ham'; expected <random>@<ip>:<port>"),
    ],
)
def test_what_is_no_host_id_is_refused(argument: dict[str, Any], said: str) -> None:
    with pytest.raises(BadParams) as refused:
        host_id_of(argument)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("host_id", "address"),
    [
        ("ham@10.0.0.7:2004", "10.0.0.7"),
        ("ham@10.0.0.7:2004", "::ffff:10.0.0.7"),
        ("addr-10-0-0-7@10.0.0.7:0", "10.0.0.7"),
    ],
)
def test_a_host_id_is_the_callers_own_where_its_address_is(host_id: str, address: str) -> None:
    assert str(callers_host_id({"host_id": host_id}, Caller(address, 1))) == host_id


@pytest.mark.parametrize(
    ("host_id", "said"),
    [
        ("ham@10.0.0.8:2004", "does not match the address of this request, 10.0.0.7"),
        ("addr-10-0-0-8@10.0.0.8:0", "does not match the address of this request, 10.0.0.7"),
        ("addr-10-0-0-8@10.0.0.7:0", "addr-10-0-0-8 belongs to another address, 10.0.0.7"),
    ],
)
def test_the_host_id_of_another_address_is_refused(host_id: str, said: str) -> None:
    with pytest.raises(IdentityRefused) as refused:
        callers_host_id({"host_id": host_id}, Caller("10.0.0.7", 1))
    assert said in str(refused.value)
