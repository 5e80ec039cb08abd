"""Write docs/reference/commands.md and plugin-api.md from the commands' help and the docstrings of co2.plugin.

Run it after a change of either: ``make reference``.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from co2 import errors, plugin
from co2.cli.main import COMMANDS, SETTINGS
from co2.plugin import api

FOLDER = Path(__file__).parent.parent / "docs" / "reference"

NOT_FOR_AUTHORS = {"Timer": {"__init__", "begin", "done", "fire"}, "Host": {"__init__"}}
"""Public methods that co2 itself calls, by class."""

SECTIONS = ("Args", "Attributes", "Returns", "Raises")
"""Titles in a docstring behind which a list or a text of its own follows."""

GENERATED = "<!-- Written by tools/write_reference.py. Do not edit this page: run make reference. -->"


def main() -> None:
    """Write all pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """Return the text of each page by its path."""
    return {FOLDER / "commands.md": commands_page(), FOLDER / "plugin-api.md": plugin_page()}


# ---- commands ------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Return the page of all commands, from their help."""
    found = [(name, command) for first in COMMANDS for name, command in tree(first, load(first))]
    rows = [
        f"| [`co2 {name}`](#co2-{name.replace(' ', '-')}) | {first_line(command)} |" for name, command in found
    ]
    parts = [
        "# Commands",
        GENERATED,
        "This page has the same text as `co2 COMMAND --help`. Which host a command talks to, and what its\n"
        "exit code means, is in [configuration.md](configuration.md#which-host-a-command-talks-to).",
        "| command | |\n|---|---|\n" + "\n".join(rows),
        *(command_section(name, command) for name, command in found),
    ]
    return "\n\n".join(parts) + "\n"


def load(name: str) -> click.Command:
    """Import a command of ``co2``."""
    command = getattr(importlib.import_module(COMMANDS[name]), name.replace("-", "_"))
    assert isinstance(command, click.Command)
    return command


def tree(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and those below it, each with what is typed after ``co2``."""
    yield name, command
    if isinstance(command, click.Group):
        for below, one in command.commands.items():
            yield from tree(f"{name} {below}", one)


def first_line(command: click.Command) -> str:
    """Return the first sentence of a command's help."""
    return escaped(paragraphs(command.help or "")[0].partition(". ")[0].rstrip("."))


def command_section(name: str, command: click.Command) -> str:
    """Return the section of one command: usage, text, examples, options."""
    # With the settings of the program: a command keeps the help option of the first context that it is seen in.
    context = click.Context(command, info_name=name, **SETTINGS)
    usage = " ".join(["co2", name, *command.collect_usage_pieces(context)])
    options = [one for one in command.params if isinstance(one, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    parts = [f"## co2 {name}", f"```\n{usage}\n```", *map(help_paragraph, paragraphs(command.help or ""))]
    if records:
        rows = [f"| `{names}` | {escaped(' '.join(text.split()))} |" for names, text in records]
        parts.append("| option | |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def paragraphs(text: str) -> list[str]:
    """Split a help text at its empty lines."""
    return [part for part in re.split(r"\n\s*\n", inspect.cleandoc(text)) if part.strip()]


def help_paragraph(text: str) -> str:
    """Return a paragraph of a help text; one that begins with ``\\b`` keeps its lines, as a code block."""
    if not text.startswith("\b"):
        return escaped(" ".join(text.split()))
    title, *lines = text.removeprefix("\b").strip("\n").splitlines()
    return f"{escaped(title)}\n\n```\n{textwrap.dedent(chr(10).join(lines))}\n```"


# ---- the plugin API ------------------------------------------------------------------------------------


def plugin_page() -> str:
    """Return the page of ``co2.plugin``, from its docstrings."""
    classes = [name for name in plugin.__all__ if inspect.isclass(getattr(plugin, name))]
    parts = [
        "# Plugin API",
        GENERATED,
        "All names of `from co2 import plugin`. How to use them is in [plugins.md](../how-to/plugins.md),\n"
        "[plugin-services.md](../how-to/plugin-services.md) and [relay-plugins.md](../how-to/relay-plugins.md).",
        *(class_section(name, getattr(plugin, name)) for name in classes),
        *(function_section(name) for name in plugin.__all__ if inspect.isfunction(getattr(plugin, name))),
        errors_section(),
    ]
    return "\n\n".join(parts) + "\n"


def class_section(name: str, kind: type) -> str:
    """Return the section of one class: its text, its attributes, its methods."""
    node = definition(kind)
    text, listed = sections(ast.get_docstring(node) or "")
    hidden = NOT_FOR_AUTHORS.get(name, set())
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    properties = [(one.name, ast.get_docstring(one) or "") for one in methods if is_property(one)]
    rows = [
        *own_attributes(node),
        *((f"`{key}`", prose(text)) for key, text in [*items(listed, "Attributes"), *properties]),
    ]
    parts = [f"## {name}", based_on(name, kind), *map(prose, paragraphs(text))]
    if "__init__" not in hidden and (arguments := items(listed, "Args")):
        parts.append(table("argument", "", arguments))
    if rows:
        parts.append("| attribute | |\n|---|---|\n" + "\n".join(f"| {key} | {cell(text)} |" for key, text in rows))
    shown = [one for one in methods if ast.get_docstring(one) and not is_property(one) and one.name not in hidden]
    parts += [
        method_section(name, one) for one in shown if one.name in ("__exit__",) or not one.name.startswith("_")
    ]
    return "\n\n".join(part for part in parts if part)


def definition(kind: type) -> ast.ClassDef:
    """Return the syntax tree of a class; it has the docstrings as they are written, in any version of Python."""
    module = ast.parse(inspect.getsource(inspect.getmodule(kind)))  # type: ignore[arg-type]
    return next(one for one in module.body if isinstance(one, ast.ClassDef) and one.name == kind.__name__)


def based_on(name: str, kind: type) -> str:
    """Return a sentence about the base class where that is one of this page."""
    return next(
        (
            f"A [`{base.__name__}`](#{base.__name__.lower()})."
            for base in kind.__bases__
            if base.__name__ in plugin.__all__
        ),
        "",
    )


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a method is read as an attribute."""
    return any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list)


def own_attributes(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield attributes of a class body with the text that stands below each."""
    for one, following in zip(node.body, node.body[1:], strict=False):
        if not isinstance(one, ast.Assign | ast.AnnAssign):
            continue
        target = one.target if isinstance(one, ast.AnnAssign) else one.targets[0]
        if not isinstance(following, ast.Expr) or not isinstance(following.value, ast.Constant):
            continue
        if isinstance(target, ast.Name):
            given = "" if one.value is None or isinstance(one.value, ast.Call) else f" = {ast.unparse(one.value)}"
            yield f"`{target.id}{given}`", prose(inspect.cleandoc(str(following.value.value)))


def function_section(name: str) -> str:
    """Return the section of one function."""
    module = ast.parse(inspect.getsource(inspect.getmodule(getattr(plugin, name))))  # type: ignore[arg-type]
    node = next(one for one in module.body if isinstance(one, ast.FunctionDef) and one.name == name)
    return signature_section(f"## {name}", node)


def method_section(kind: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the section of one method."""
    return signature_section(f"### {kind}.{node.name}", node)


def signature_section(title: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the section of one method or function below its title."""
    text, listed = sections(ast.get_docstring(node) or "")
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returned = f" -> {unquoted(node.returns)}" if node.returns else ""
    parts = [
        title,
        f"```python\n{prefix} {node.name}({unquoted(node.args)}){returned}: ...\n```",
        *map(prose, paragraphs(text)),
    ]
    if arguments := items(listed, "Args"):
        parts.append(table("argument", "", arguments))
    if returns := listed.get("Returns"):
        parts.append(f"Returns: {prose(returns)}")
    if raised := items(listed, "Raises"):
        parts.append(table("raises", "when", raised))
    return "\n\n".join(parts)


def unquoted(node: ast.AST) -> str:
    """Return source text, without the quotes of annotations that are texts, and with constants' values."""
    text = re.sub(r"(: |-> |^)'([\w\[\], .|]+)'", r"\1\2", ast.unparse(node))
    text = re.sub(r"=([A-Z_]+)\b", lambda found: f"={getattr(api, found[1]):g}", text)
    return re.sub(r"(: [\w\[\]. |]+)=", r"\1 = ", text)


def errors_section() -> str:
    """Return the section of ``plugin.errors``: the tree, and each error."""
    tree_text = re.search(r"^::\n\n(.*?)\n\n(?=\S)", inspect.cleandoc(errors.__doc__ or ""), re.M | re.S)
    assert tree_text, "the docstring of errors.py draws the tree"
    rows = []
    for name in errors.__all__:
        kind = getattr(errors, name)
        text, listed = sections(ast.get_docstring(definition(kind)) or "")
        code = str(vars(kind).get("code", "")) if issubclass(kind, errors.PeerError) else ""
        kept = re.findall(r"self\.(\w+) = ", inspect.getsource(kind))
        data = ", ".join(f"`{key}`" for key, _ in items(listed, "Args") if key in kept)
        rows.append(f"| `{name}` | {code} | {cell(prose(text))} | {data} |")
    head = "| error | Fault | | attributes |\n|---|---|---|---|"
    return f"## errors\n\n```\n{textwrap.dedent(tree_text[1])}\n```\n\n{head}\n" + "\n".join(rows)


# ---- docstrings ----------------------------------------------------------------------------------------


def sections(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text and its sections, by title."""
    first, *rest = re.split(rf"^({'|'.join(SECTIONS)}):\n", docstring, flags=re.M)
    return first.strip(), {
        title: textwrap.dedent(text).strip() for title, text in zip(rest[::2], rest[1::2], strict=True)
    }


def items(listed: dict[str, str], title: str) -> list[tuple[str, str]]:
    """Return the entries of a section: each begins a line with its name, or names, and a colon."""
    found = re.split(r"^(\*{0,2}\w[\w, ]*): ", listed.get(title, ""), flags=re.M)
    return list(zip(found[1::2], found[2::2], strict=True))


def table(left: str, right: str, rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and texts."""
    lines = [
        f"| {', '.join(f'`{key}`' for key in keys.split(', '))} | {cell(prose(text))} |" for keys, text in rows
    ]
    return f"| {left} | {right} |\n|---|---|\n" + "\n".join(lines)


def prose(text: str) -> str:
    """Return a text of a docstring as Markdown, on one line."""
    text = re.sub(r":\w+:`[~.]?([^`]*)`", r"``\1``", " ".join(text.split()))
    pieces = re.split(r"``(.+?)``", text)
    return "".join(f"`{piece}`" if number % 2 else escaped(piece) for number, piece in enumerate(pieces))


def escaped(text: str) -> str:
    """Return plain text with what Markdown would take for markup escaped."""
    return re.sub(r"([*<|\\])", r"\\\1", text).replace("__", r"\_\_")


def cell(text: Any) -> str:
    """Return text for a cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\\|", str(text))


if __name__ == "__main__":
    main()
