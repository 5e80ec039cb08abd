"""Characters that cannot be seen are written out, everywhere the same."""

import json
import sys
import unicodedata

import pytest

from co2.cli.output import one_line, to_json
from co2.logs import escaped
from co2.unseen import escape_unseen

SEEN = "\u200c\u200d" + "".join(
    map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD))
)
HIEROGLYPHS = range(0x13430, 0x13440)
"""Format characters of category Cf that have a shape, or without which a language cannot be written."""

UNSEEN = [
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    and char not in SEEN
    and ord(char) not in HIEROGLYPHS
]


def test_every_character_that_cannot_be_seen_is_written_out():
    assert len(UNSEEN) > 2200
    for char in UNSEEN:
        assert escape_unseen(f"a{char}b").isprintable(), hex(ord(char))
        assert one_line(f"a{char}b").isprintable()
        assert escaped(f"a{char}b").isprintable() or char in "\t\n"
        written = to_json({"data": f"a{char}b"})
        assert written.isprintable()
        assert json.loads(written) == {"data": f"a{char}b"}


def test_what_can_be_seen_stays():
    text = f"na\u00efve {SEEN} \U0001f469\u200d\U0001f680 \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert escape_unseen(text) == one_line(text) == escaped(text) == text
    assert json.loads(to_json(text)) == text
    assert to_json({"a": [1]}, indent=2) == '{\n  "a": [\n    1\n  ]\n}'


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u061c", "\u200b", "\U000e0041"])
def test_they_are_written_as_python_and_json_write_them(char):
    assert one_line(char) == repr(char)[1:-1]
    assert to_json(char) == json.dumps(char)
