"""How values look on a page."""

import pytest

from co2.web.text import anchor, duration, paragraphs, shorten, size, words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (0.0042, "4 ms"),
        (1.3, "1.3 s"),
        (2.0, "2 s"),
        (37.94, "38 s"),
        (60, "1 min"),
        (400, "6 min 40 s"),
        (3600, "1 h"),
        (3601, "1 h"),
        (11537.2, "3 h 12 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (2**20 * 64, "64 MiB")],
)
def test_size(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        (True, "", "yes"),
        (None, "", "–"),
        ("", "", "–"),
        ([], "", "–"),
        (1843020, "received", "1,843,020"),
        (25.0, "drop_after", "25 s"),
        (86400.0, "log_age", "1 d"),
        (0.05, "durability", "50 ms"),
        (0.0, "durability", "0 ms"),
        (2048, "plugin_memory", "2 GiB"),
        (67108864, "log_bytes", "64 MiB"),
        (49152, "bytes_written", "48 KiB"),
        (["a", 1], "", "a, 1"),
        ({"a": 1}, "", "a 1"),
    ],
)
def test_words(value, key, text):
    assert words(value, key) == text


def test_names_and_addresses():
    assert anchor('a.b"<c>') == "a.b%22%3Cc%3E"
    assert shorten("x" * 5000).endswith(" …")


def test_docstrings_are_cut_into_paragraphs_and_code():
    text = "Call a method.\n\nTakes ``data`` and\n``host_id``.\n\n* one\n* two\n"
    assert paragraphs(text) == [
        [(False, "Call a method.")],
        [(False, "Takes "), (True, "data"), (False, " and "), (True, "host_id"), (False, ".")],
        [(False, "* one\n* two")],
    ]
