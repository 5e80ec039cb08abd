"""What an author says about an ``x_`` method for programs that call it: how dangerous a call is, and units."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["DANGERS", "MAX_UNIT", "RESULT", "Marks", "marks", "marks_of"]

DANGERS = ("look", "touch", "harm")
"""The values of ``danger``, from harmless to dangerous."""

MAX_UNIT = 32
"""Characters of a unit."""

RESULT = "return"
"""The name of the result among the units, as among Python's annotations."""

_ATTRIBUTE = "_co2_marks"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of one method.

    Attributes:
        danger: one of :data:`DANGERS`, '' for none.
        units: by the name of the parameter; that of the result is :data:`RESULT`.
    """

    danger: str = ""
    units: Mapping[str, str] = field(default_factory=dict)


def marks(*, danger: str = "", unit: Mapping[str, str] | None = None) -> Callable[[Function], Function]:
    """Mark an ``x_`` method for programs that call it, as in ``@plugin.marks(danger="touch")``.

    Programs read the marks in the method's schema, with ``co2.get_method_schema``. co2 itself does not act on
    them.

    Args:
        danger: ``"look"`` for a method that only returns something; ``"touch"`` for one that changes what people
            see or hear, and whose effect another call can undo; ``"harm"`` for one that can end a show, delete
            something, or hurt somebody. ``""``, as without a mark, means that the author does not say.
        unit: units by the name of the parameter, such as ``{"level": "dB", "return": "s"}``; ``return`` is the
            result. A unit has up to 32 characters.

    Raises:
        ValueError: ``danger`` is none of these, or ``unit`` is not such a dictionary.
    """
    if danger not in ("", *DANGERS):
        raise ValueError(f"danger: found {danger!r:.80}, expected {', '.join(map(repr, DANGERS))}")
    units = {} if unit is None else unit
    if not isinstance(units, Mapping):
        raise ValueError(f'unit: found {unit!r:.80}, expected a dictionary such as {{"level": "dB"}}')
    for name, text in units.items():
        if not isinstance(name, str) or not isinstance(text, str) or not 0 < len(text) <= MAX_UNIT:
            found = f"{name!r:.80}: {text!r:.80}"
            raise ValueError(f"unit: found {found}, expected a name and 1 to {MAX_UNIT} characters")
    made = Marks(danger, dict(units))

    def mark(function: Function) -> Function:
        setattr(getattr(function, "__func__", function), _ATTRIBUTE, made)
        return function

    return mark


def marks_of(function: object) -> Marks:
    """Return the marks of a method, bound or not; empty ones if it has none."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Marks) else Marks()
