"""Write a test's configuration as ``co2.toml``."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["toml_text"]


def toml_text(tables: Mapping[str, Any], path: str = "") -> str:
    """Write tables as TOML.

    Args:
        tables: text, numbers, booleans, lists and tables.
        path: name of the enclosing table.
    """
    plain = {key: value for key, value in tables.items() if not isinstance(value, Mapping)}
    text = "".join(f"{_key(key)} = {_value(value)}\n" for key, value in plain.items())
    if path and (text or not tables):
        text = f"[{path}]\n{text}\n"
    for key, value in tables.items():
        if isinstance(value, Mapping):
            text += toml_text(value, f"{path}.{_key(key)}".lstrip("."))
    return text


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)  # JSON's notation is valid TOML
    if isinstance(value, Path):
        return json.dumps(str(value), ensure_ascii=False)
    return repr(value)
