"""Names of hosts: their form, and how one is made of any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from co2.host_name import (
    MAX_HOST_NAME,
    check_host_name,
    default_host_name,
    host_name_of_origin,
    is_host_name,
    is_host_word,
    numbered_host_name,
    sanitised_host_name,
)


@pytest.mark.parametrize(
    "name", ["foyer-pi", "a", "pi-2", "3d-printer", "x" * MAX_HOST_NAME, "cab", "xn--bcher-kva"]
)
def test_these_are_names(name: str) -> None:
    assert is_host_name(name)
    assert check_host_name(name) == name
    assert is_host_word(name)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Foyer",
            "foyer pi",
            "foyer_pi",
            "-pi",
            "pi-",
            "foyer.lan",
            "größe",
            "pi\n",
            "x" * (MAX_HOST_NAME + 1),
        ),
        *(
            "8f3a61c29b04d7e5@192.168.1.20:2004",
            "8f3a61c29b04d7e5",
            "8f3a",
            "cafe",
            "2003",
            "\u0660\u0661\u0662\u0663",
        ),
    ],
)
def test_these_are_no_names(text: str) -> None:
    """Hexadecimal ones could be the beginning of an origin."""
    assert not is_host_name(text)
    with pytest.raises(ValueError, match="a name "):
        check_host_name(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Foyer-Pi", "foyer-pi"),
        ("stage left_2", "stage-left-2"),
        ("cafe", "host-cafe"),
        ("3f2a9b7c1d0e", "host-3f2a9b7c1d0e"),
        ("--", "host"),
        ("", "host"),
        ("x" * 31 + "-y", "x" * 31),
    ],
)
def test_a_name_is_made_of_any_text(text: str, name: str) -> None:
    assert sanitised_host_name(text) == name


@given(st.text(max_size=80), st.integers(2, 10**6))
def test_what_is_made_is_a_name(text: str, number: int) -> None:
    assert is_host_name(sanitised_host_name(text))
    assert is_host_name(numbered_host_name(sanitised_host_name(text), number))
    assert is_host_name(host_name_of_origin(text))
    assert is_host_name(default_host_name("relay", text))


def test_the_default_is_the_machine_s_name_without_its_domain() -> None:
    assert default_host_name("satellite", "Foyer-Pi.lan") == "foyer-pi"
    assert default_host_name("relay", "Foyer-Pi.lan") == "relay-foyer-pi"
