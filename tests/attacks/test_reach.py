"""Rows 37, 42, 43 and 53: who may call what from where, and what they leave in the log."""

import re

import pytest

from co2.errors import RemoteFault
from co2.xmlrpc.reader import read_response
from tests.attacks.conftest import Target
from tests.attacks.raw import call, call_body, exchange, request
from tests.harness import wait_for

PING = call_body("ping")


def status(target: Target, data: bytes) -> int:
    reply = exchange(target.port, data)
    assert reply is not None
    return reply.status


@pytest.mark.parametrize(
    "name",
    [
        "__class__.__init__",
        "plugin.os.system",
        "a.b.c",
        "ping.__self__",
        "test.__globals__",
        "_registry",
        "os.system",
    ],
)
def test_row_37_dotted_names(target: Target, name: str) -> None:
    with pytest.raises(RemoteFault) as caught:
        call(target.port, name, "x")
    assert caught.value.code == -32601


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "",
        "text/xmlx",
        "text/html",
    ],
)
def test_row_42_a_form_of_a_web_page(target: Target, content_type: str) -> None:
    """It gets a Fault, which no page of another site can read; nothing was called."""
    before = call(target.port, "co2.get_properties")
    reply = exchange(target.port, request(call_body("test", "canary"), f"Content-Type: {content_type}"))
    assert reply is not None
    with pytest.raises(RemoteFault, match="text/xml") as caught:
        read_response(reply.body)
    assert (reply.status, caught.value.code, reply.closed) == (200, -32600, True)
    after = call(target.port, "co2.get_properties")
    assert after["faults"].get("-32600", 0) == before["faults"].get("-32600", 0) + 1


def test_row_42_application_xml_is_no_type_of_a_form_either(target: Target) -> None:
    assert status(target, request(PING, "Content-Type: application/xml")) == 200
    assert status(target, request(PING, "Content-Type: application/xml", "Origin: http://evil.example")) == 403


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: http://evil.example",),
        ("Origin: null",),
        ("Origin: http://127.0.0.1:1",),
        ("Origin: https://127.0.0.1",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
        ("Origin: http://127.0.0.1", "Sec-Fetch-Site: cross-site"),
    ],
)
def test_row_42_a_script_of_a_web_page(target: Target, headers: tuple[str, ...]) -> None:
    assert status(target, request(PING, *headers)) == 403


def test_row_42_a_page_of_ours_is_reached_by_a_link_but_not_by_a_script(target: Target) -> None:
    get = {"first": "GET / HTTP/1.1"}
    assert status(target, request(b"", "Sec-Fetch-Site: cross-site", **get)) == 200
    assert status(target, request(b"", "Origin: http://evil.example", **get)) == 403


def test_row_42_our_own_origin(target: Target) -> None:
    assert status(target, request(PING, "Origin: http://127.0.0.1", "Sec-Fetch-Site: same-origin")) == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:2003", "127.0.0.1.evil.example", "localhost.evil"])
@pytest.mark.parametrize("first", ["POST /RPC2 HTTP/1.1", "GET / HTTP/1.1"])
def test_row_43_a_name_that_was_bent_to_our_address(target: Target, host: str, first: str) -> None:
    body = PING if first.startswith("POST") else b""
    assert status(target, request(body, f"Host: {host}", "Sec-Fetch-Site: same-origin", first=first)) == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:2003", "[::1]:2003", "10.9.8.7", "localhost", "LOCALHOST:1", "stage.example:2003"],
)
def test_row_43_names_that_are_ours(target: Target, host: str) -> None:
    assert status(target, request(PING, f"Host: {host}")) == 200


def test_row_53_nothing_forges_a_line(target: Target) -> None:
    evil = "bob\r\nCRITICAL all is lost \x1b[2J"
    for data in (
        request(PING, f"User-Agent: {evil}"),
        request(PING, first=f"POST /{evil} HTTP/1.1"),
        request(PING, first="GET /?\x1b[2J HTTP/1.1"),
        request(PING, f"Host: {evil}"),
        request(call_body("x").replace(b">x<", b">bob\nCRITICAL all is lost<")),
    ):
        exchange(target.port, data)
    with pytest.raises(RemoteFault):
        call(target.port, "marker.after.evil")
    access = wait_for(lambda: "marker.after.evil" in (log := target.log("access.log")) and log, "the access log")
    log = target.log("co2.log")
    for text in (str(access), log):
        assert "\x1b" not in text
        assert not re.search(r"^CRITICAL", text, re.MULTILINE)
    lines = str(access).splitlines()
    assert all(
        re.fullmatch(r"[-0-9]{10} [:0-9]{8}\.[0-9]{3} [0-9.]+ (POST|GET) \S+ \d+ \d+ [0-9.]+ ms", x) for x in lines
    )


def test_row_53_a_handler_that_raises_tells_an_id_only(target: Target) -> None:
    with pytest.raises(RemoteFault) as caught:
        call(target.port, "broken")
    assert caught.value.code == -32603
    assert "canary" not in caught.value.text
    found = re.search(r"internal error ([0-9a-f]{8})", caught.value.text)
    assert found
    log = wait_for(lambda: found[1] in (text := target.log("co2.log")) and text, "the log")
    assert "canary-secret" in str(log)


def test_row_53_a_page_that_raises_tells_an_id_only(target: Target) -> None:
    reply = exchange(target.port, request(b"", first="GET /broken HTTP/1.1"))
    assert reply is not None
    assert reply.status == 500
    assert b"canary" not in reply.body
    assert re.search(rb"internal error [0-9a-f]{8}", reply.body)


def test_row_54_refusals_do_not_flood_the_log(target: Target) -> None:
    before = target.log("co2.log").count("refused")
    for _ in range(200):
        exchange(target.port, request(PING, "Host: evil.example"))
    assert target.log("co2.log").count("refused") - before < 100
