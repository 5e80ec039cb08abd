"""The tree that the docstring of co2.errors draws is the tree of its classes."""

import builtins
import inspect
import re
from typing import Any

from co2 import errors

LINE = re.compile(
    r"^(?P<indent>[ │├└─]*)(?P<name>[A-Z]\w+)(?: +(?:\((?P<also>\w+)\)|(?P<code>-?\d+)(?= |$)))?", re.M
)
CLASSES: dict[str, Any] = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and kind.__module__ == errors.__name__
}


def test_the_drawn_tree_has_each_class_under_its_base_with_its_code() -> None:
    tree = inspect.cleandoc(errors.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    parents: list[type] = []
    drawn = []
    for line in LINE.finditer(tree):
        kind = CLASSES[line["name"]]
        drawn.append(line["name"])
        depth = len(line["indent"]) // 4 - 1
        bases = [parents[depth - 1] if depth else Exception]
        if line["also"]:
            bases.append(getattr(builtins, line["also"]))
        assert kind.__bases__ == tuple(bases), line["name"]
        if line["code"]:
            assert kind.code == int(line["code"]), line["name"]
        elif issubclass(kind, errors.PeerError) and kind is not errors.PeerError:
            assert "code" not in vars(kind), f"the code of {line['name']} is not drawn"
        parents[depth:] = [kind]
    assert sorted(drawn) == sorted(CLASSES)


def test_every_class_is_a_public_name() -> None:
    assert errors.__all__ == sorted(CLASSES)
