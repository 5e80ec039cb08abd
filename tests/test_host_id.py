"""host_id: parse, format, compare with an address."""

import pytest

from co2.host_id import HostId


@pytest.mark.parametrize("text", ["124571645@127.0.0.1:2004", "8f3a@[::1]:2003", "a-b_c@10.0.0.7:0"])
def test_what_is_read_is_written_the_same(text: str) -> None:
    assert str(HostId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:2004",
        "x@localhost:2004",
        "x@127.0.0.1",
        "x@127.0.0.1:65536",
        "x@999.0.0.1:1",
        "x y@127.0.0.1:1",
        "x@127.0.0.1:1\r\nHost: evil",
        "x" * 65 + "@127.0.0.1:1",
        "x@[127.0.0.1:1",
    ],
)
def test_what_is_no_host_id_is_refused_with_the_form_expected(text: str) -> None:
    with pytest.raises(ValueError, match="not a host_id"):
        HostId.parse(text)


def test_an_ipv4_address_in_the_clothes_of_ipv6_is_the_same_address() -> None:
    assert HostId.parse("x@127.0.0.1:1").matches("::ffff:127.0.0.1")
    assert not HostId.parse("x@127.0.0.1:1").matches("127.0.0.2")
    assert not HostId.parse("x@127.0.0.1:1").matches("not an address")
