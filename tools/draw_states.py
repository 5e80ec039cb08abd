"""Draw the states of a link and of a plugin package into docs/architecture.md, from their tables.

Run it after a change of one of the tables: ``make diagrams``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from co2.plugin.parent.lifecycle_transitions import PACKAGE
from co2.protocol.transitions import RELAY, SATELLITE, drawn

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"

DRAWN: Mapping[str, Mapping[str, Mapping[str, Mapping[Any, str]]]] = {
    "src/co2/protocol/transitions.py": {"The satellite's side": SATELLITE, "The relay's side": RELAY},
    "src/co2/plugin/parent/lifecycle_transitions.py": {"A plugin package": PACKAGE},
}
"""Tables with their captions, by the file that has them."""

END = "<!-- drawn up to here -->"


def with_diagrams(page: str) -> str:
    """Return the page with diagrams of the present tables, those of each file between two marks.

    Raises:
        ValueError: it does not have the two marks of each file exactly once.
    """
    for file, tables in DRAWN.items():
        begin = f"<!-- drawn by tools/draw_states.py from {file} -->"
        diagrams = "".join(f"{caption}:\n\n```mermaid\n{drawn(table)}```\n\n" for caption, table in tables.items())
        between = re.compile(f"{re.escape(begin)}.*?{re.escape(END)}", re.S)
        page, count = between.subn(f"{begin}\n\n{diagrams}{END}", page)
        if count != 1:
            raise ValueError(f"{PAGE.name} has {count} places for the diagrams of {file}, expected one")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_diagrams(PAGE.read_text()))
