"""Answers of every page: with headers that make a browser trust only our own files."""

import json
from collections.abc import Mapping
from typing import Any

from co2.values import to_jsonable
from co2.web.page import PageAnswer

__all__ = ["SECURITY_HEADERS", "answer", "json_answer"]

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def answer(
    body: bytes, content_type: str, *, status: int = 200, max_age: int = 0, location: str = ""
) -> PageAnswer:
    """Return an answer.

    Args:
        body: as sent.
        content_type: with its charset.
        status: HTTP status.
        max_age: seconds that a browser may cache it; 0 for not at all.
        location: address to redirect the browser to, '' for none.
    """
    headers = dict(SECURITY_HEADERS)
    headers["Content-Type"] = content_type
    headers["Cache-Control"] = f"max-age={max_age}" if max_age else "no-store"
    if location:
        headers["Location"] = location
    return PageAnswer(body, status, headers)


def json_answer(value: Mapping[str, Any], status: int = 200) -> PageAnswer:
    """Return a JSON answer."""
    body = json.dumps(to_jsonable(value), indent=1, allow_nan=False).encode() + b"\n"
    return answer(body, "application/json; charset=utf-8", status=status)
