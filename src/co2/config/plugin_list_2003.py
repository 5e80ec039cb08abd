"""The ``config.py`` of 2003: ``plugin_list = [...]``, read as text and never executed."""

import ast
import warnings
from pathlib import Path

from co2.config.private import Trust, check_private
from co2.errors import ConfigError

__all__ = ["MAX_SIZE", "read_plugin_list_2003"]

MAX_SIZE = 256 * 1024
"""Bytes of the largest config.py that is read."""


def read_plugin_list_2003(path: Path, trust: Trust | None = None) -> list[str] | None:
    """Read ``plugin_list`` from a 2003 ``config.py``; the rest of the file is ignored.

    Args:
        path: of the file.
        trust: owners accepted beside ourselves and root.

    Returns:
        The names, None if there is no file or no such list in it.

    Raises:
        ConfigError: the file cannot be read as Python, or its list is not one of plain strings.
    """
    if not path.is_file():
        return None
    check_private(path, trust)
    try:
        source = path.read_bytes()
        if len(source) > MAX_SIZE:
            raise ConfigError(str(path), f"larger than {MAX_SIZE} bytes")
        with warnings.catch_warnings(action="ignore"):  # Python's warnings about its style help nobody
            tree = ast.parse(source, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ConfigError(f"{path}:{line}", f"not Python: {error.__class__.__name__}: {error}"[:300]) from None
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    found: list[str] | None = None
    for node in tree.body:
        value = _assigned(node)
        if value is not None:
            found = _strings(value, path)
    return found


def _assigned(node: ast.stmt) -> ast.expr | None:
    """Return the value that a statement assigns to ``plugin_list``, None for other statements."""
    if isinstance(node, ast.Assign):
        targets, value = node.targets, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets, value = [node.target], node.value
    elif isinstance(node, ast.AugAssign):
        # The value alone would be half of the list: the name itself stands for an unreadable value.
        targets, value = [node.target], node.target
    else:
        return None
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return value if "plugin_list" in names else None


def _strings(value: ast.expr, path: Path) -> list[str]:
    if isinstance(value, ast.List | ast.Tuple):
        items = [item.value if isinstance(item, ast.Constant) else None for item in value.elts]
        if all(isinstance(item, str) for item in items):
            return [str(item) for item in items]
    raise ConfigError(
        f"{path}:{value.lineno}",
        "plugin_list must be written as a list of plain strings, such as ['example', 'osc']: this file is read, "
        "not executed",
    )
