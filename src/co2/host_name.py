"""The name of a host, for people: ``foyer-pi``. The relay makes it unique (``protocol/relay/names.py``).

A host_id is what programs go by; a name is what people read and type. It can never be taken for a host_id, which
contains ``@``, nor for the beginning of an origin that co2 makes, which is hexadecimal.
"""

import re

__all__ = [
    "LEAST_OF_ORIGIN",
    "MAX_HOST_NAME",
    "check_host_name",
    "default_host_name",
    "host_label",
    "host_name_of_origin",
    "is_host_name",
    "is_host_word",
    "numbered_host_name",
    "sanitised_host_name",
]

MAX_HOST_NAME = 32
"""Characters of a host's name, with the number that the relay may add."""

LEAST_OF_ORIGIN = 4
"""Characters of an origin, or more, by which a host can be called; as many hexadecimal ones alone are no name."""

_ORIGIN_SHOWN = 8
"""Characters of the origin in the name of a host that has none."""

_FORM = re.compile(rf"(?!-)[a-z0-9-]{{1,{MAX_HOST_NAME}}}(?<!-)")
_LIKE_AN_ORIGIN = re.compile(rf"[0-9a-f]{{{LEAST_OF_ORIGIN},}}")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OTHER = re.compile(r"[^a-z0-9]+")


def is_host_name(text: str) -> bool:
    """Return whether a text can be the name of a host."""
    return _FORM.fullmatch(text) is not None and _LIKE_AN_ORIGIN.fullmatch(text) is None


def check_host_name(text: str) -> str:
    """Return the name of a host.

    Raises:
        ValueError: it has another form; the text describes the valid one.
    """
    if _LIKE_AN_ORIGIN.fullmatch(text):
        raise ValueError("a name that is not the beginning of a host_id too: with a letter from g to z, or a -")
    if not is_host_name(text):
        raise ValueError(
            f"a name of 1 to {MAX_HOST_NAME} of the characters a-z, 0-9 and -, without - at its ends, "
            "such as foyer-pi"
        )
    return text


def is_host_word(text: str) -> bool:
    """Return whether a text can stand for a host in place of its host_id: a name, an origin, or a part of one."""
    return _WORD.fullmatch(text) is not None


def sanitised_host_name(text: str) -> str:
    """Return a name made of any text: other characters become a hyphen, and what is too long is cut off."""
    name = _cut(_OTHER.sub("-", text.lower()).strip("-"), MAX_HOST_NAME)
    if not name:
        return "host"
    return name if is_host_name(name) else _cut(f"host-{name}", MAX_HOST_NAME)


def default_host_name(role: str, machine: str) -> str:
    """Return the name of a host that is given none.

    Args:
        role: ``satellite``, or the role that its name begins with: several hosts are on one machine.
        machine: the machine's name; its domain is left out.
    """
    label = machine.partition(".")[0]
    return sanitised_host_name(label if role == "satellite" else f"{role}-{label}")


def host_name_of_origin(origin: str) -> str:
    """Return the name of a host that wishes for none, as one older than names."""
    return sanitised_host_name(f"host-{origin[:_ORIGIN_SHOWN]}")


def numbered_host_name(name: str, number: int) -> str:
    """Return a name with a number behind it, such as ``foyer-pi-2``."""
    end = f"-{number}"
    return _cut(name, MAX_HOST_NAME - len(end)) + end


def host_label(name: str, host_id: object) -> str:
    """Return a host as texts for people name it: ``foyer-pi (8f3a…@192.168.1.20:2004)``."""
    return f"{name} ({host_id})" if name else str(host_id)


def _cut(name: str, length: int) -> str:
    return name[:length].rstrip("-")
