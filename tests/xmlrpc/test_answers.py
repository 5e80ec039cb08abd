"""The head of an answer: what is read, and what each other status means."""

import re

import pytest

from co2.errors import FailedInside, InternalError, ParseError, PeerError, Unreachable, WrongEncoding
from co2.xmlrpc.answers import check_answer, split_url
from co2.xmlrpc.encodings import codec_of
from co2.xmlrpc.faults import as_fault

URL = "http://a:1"


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (299, Unreachable, "accepts no calls: HTTP 299"),
        (300, Unreachable, "redirects (HTTP 300), which is not followed"),
        (399, Unreachable, "redirects (HTTP 399), which is not followed"),
        (400, ParseError, "answered 400 with 'text/plain' instead of text/xml"),
        (404, Unreachable, "accepts no calls: HTTP 404"),
        (413, ParseError, "answered 413 with 'text/plain' instead of text/xml"),
        (500, FailedInside, "failed: HTTP 500"),
        (501, Unreachable, "accepts no calls: HTTP 501"),
    ],
)
def test_what_a_status_without_xml_means(status: int, error: type[PeerError], text: str) -> None:
    with pytest.raises(error) as caught:
        check_answer(URL, status, "text/plain", "")
    assert type(caught.value) is error
    assert str(caught.value) == f"{URL} {text}"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://a", ("a", 80, "/RPC2")),
        ("http://a:0/", ("a", 0, "/RPC2")),
        ("http://a:2003/xml", ("a", 2003, "/xml")),
        ("http://[::1]:1", ("::1", 1, "/RPC2")),
    ],
)
def test_the_parts_of_a_url(url: str, parts: tuple[str, int, str]) -> None:
    assert split_url(url) == parts


@pytest.mark.parametrize(("name", "shown"), [("x" * 40, "x" * 40), ("x" * 41, "x" * 40 + "…")])
def test_the_name_of_an_encoding_is_told_up_to_40_characters(name: str, shown: str) -> None:
    with pytest.raises(WrongEncoding, match=f"unsupported encoding '{shown}';"):
        codec_of(name)


def test_an_error_of_ours_is_told_as_a_short_id() -> None:
    told = as_fault(KeyError("canary"), "ham")
    assert isinstance(told, InternalError)
    assert re.fullmatch("[0-9a-f]{8}", told.error_id)
    assert "canary" not in str(told)
