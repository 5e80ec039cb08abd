"""What a plugin class says about itself: ``channels``, ``live``, ``durable`` and ``exclusive``."""

import ast
import sys
from pathlib import Path

from co2.errors import BadRequest
from co2.plugin.api import Co2Plugin
from co2.protocol.interests import MAX_PATTERNS, check_pattern

__all__ = ["attribute_problem"]

_EXAMPLES = {"channels": '("stage.*", "lab.>")', "live": '("meter.*",)'}


def attribute_problem(kind: type[Co2Plugin]) -> tuple[str, str]:
    """Tell what is wrong with the attributes of a class, and ``file:line`` of the one that is; '' for nothing."""
    for attribute, example in _EXAMPLES.items():
        if problem := _patterns_problem(getattr(kind, attribute), example):
            return f"{kind.__name__}.{attribute}: {problem}", _place_of(kind, attribute)
    for attribute in ("durable", "exclusive"):
        if not isinstance(value := getattr(kind, attribute), bool):
            problem = f"{kind.__name__}.{attribute}: found {value!r:.80}, expected True or False"
            return problem, _place_of(kind, attribute)
    return "", ""


def _place_of(kind: type, attribute: str) -> str:
    """Give ``file:line`` where a class, or one that it inherits from, sets an attribute; '' for unknown."""
    owner = next((base for base in kind.__mro__ if attribute in vars(base)), kind)
    file = getattr(sys.modules.get(owner.__module__), "__file__", None) or ""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            for line in node.body:
                targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
                if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
                    return f"{file}:{line.lineno}"
    return ""


def _patterns_problem(value: object, example: str) -> str:
    if isinstance(value, str):
        return f"found the text {value!r:.80}, expected a tuple of patterns such as {example}; mind the comma"
    if not isinstance(value, list | tuple):
        return f"found {type(value).__name__}, expected a tuple of patterns such as {example}"
    if len(value) > MAX_PATTERNS:
        return f"{len(value)} patterns, at most {MAX_PATTERNS} are possible"
    return next((problem for pattern in value if (problem := _pattern_problem(pattern))), "")


def _pattern_problem(pattern: object) -> str:
    if not isinstance(pattern, str):
        return f"found {pattern!r:.80}, expected text"
    try:
        check_pattern(pattern)
    except BadRequest as error:
        return str(error)
    except UnicodeEncodeError:
        return f"{pattern!r:.80} is not valid Unicode"
    for token in pattern.split("."):
        if len(token) > 1 and ("*" in token or ">" in token):
            return f"{pattern!r}: '*' and '>' stand for whole tokens, {token!r} would be taken literally"
    return ""
