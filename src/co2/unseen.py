"""Escape invisible characters that a terminal would obey, so that they have no effect."""

import re
from collections.abc import Callable

__all__ = ["escape_unseen"]

_UNSEEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters, ESC and CSI among them
    "\xad\u180e\u200b\u2060-\u2064\ufeff"  # no width at all: two names look like one
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # writing direction: text is shown in another order
    "\u2028\u2029"  # line ends, to some programs
    "\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"  # marks without a shape
    "\ud800-\udfff"  # surrogates: no output accepts them
    "]"
)
"""Unicode's categories Cc, Cf, Zl, Zp and Cs, but for the joiners U+200C and U+200D, without which neither Persian
nor many emoji can be written, and for signs of category Cf that have a shape."""


def escape_unseen(text: str, keep: str = "", write: Callable[[str], str] = lambda char: repr(char)[1:-1]) -> str:
    r"""Write invisible characters as ``\x1b`` or ``\u202e``.

    Args:
        text: any text.
        keep: characters that stay as they are, such as the end of a line.
        write: returns the escape for such a character.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else write(found[0]), text)
