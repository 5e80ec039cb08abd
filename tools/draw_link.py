"""Draw the states of a link into docs/explanation/architecture.md, from the table that both state machines run by.

Run it after a change of src/co2/protocol/transitions.py: ``make diagrams``.
"""

import re
from pathlib import Path

from co2.protocol.transitions import RELAY, SATELLITE, drawn

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "architecture.md"

BEGIN = "<!-- drawn by tools/draw_link.py from src/co2/protocol/transitions.py -->"
END = "<!-- drawn up to here -->"


def with_diagrams(page: str) -> str:
    """Give the page with the diagrams of now between its two marks.

    Raises:
        ValueError: it does not have the two marks, once each.
    """
    drawings = "".join(
        f"The {role}'s side:\n\n```mermaid\n{drawn(table)}```\n\n"
        for role, table in (("satellite", SATELLITE), ("relay", RELAY))
    )
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.S)
    new, count = between.subn(lambda _: f"{BEGIN}\n\n{drawings}{END}", page)
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} places for the diagrams, one is wanted")
    return new


if __name__ == "__main__":
    PAGE.write_text(with_diagrams(PAGE.read_text()))
