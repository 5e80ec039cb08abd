"""What a package needs besides co2: ``requires = ("numpy>=2",)`` in its ``__init__.py``.

It is read before anything of the package runs. What is missing is named, with the command that installs it;
nothing is installed by itself.
"""

import ast
import shlex
import sys
from collections.abc import Sequence

__all__ = ["RequirementsProblem", "check_requirements", "install_command", "read_requirements"]

VARIABLE = "requires"

_WANTED = f'{VARIABLE} should be a tuple of names with versions, such as ("numpy>=2", "pyserial")'


class RequirementsProblem(Exception):
    """What is missing, or is no requirement.

    Args:
        problem: in words.
        line: of ``requires``.
    """

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


def check_requirements(source: bytes) -> None:
    """Look whether all is installed that a package says it needs.

    Args:
        source: of its ``__init__.py``, or of the one file that it is.

    Raises:
        RequirementsProblem: something is missing, or is no requirement.
    """
    requires, line = read_requirements(source)
    if not requires:
        return
    missing = [(one, found) for one in requires if (found := _found(one, line)) is not None]
    if missing:
        named = ", ".join(f"{one!r} ({found})" for one, found in missing)
        command = install_command([one for one, _ in missing])
        raise RequirementsProblem(f"it requires {named}; install it with: {command}", line)


def read_requirements(source: bytes) -> tuple[list[str], int]:
    """Give what stands in ``requires``, and on which line; nothing is executed.

    Raises:
        RequirementsProblem: it is no tuple of text.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], 0  # importing it says what is wrong
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not any(isinstance(target, ast.Name) and target.id == VARIABLE for target in targets):
            continue
        try:
            value = ast.literal_eval(getattr(node, "value", None))  # type: ignore[arg-type]  # None: TypeError
        except (ValueError, TypeError, RecursionError):
            raise RequirementsProblem(f"{_WANTED}: it is read, not executed", node.lineno) from None
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise RequirementsProblem(f"{_WANTED}; mind the comma of a tuple of one", node.lineno)
        return list(value), node.lineno
    return [], 0


def install_command(requirements: Sequence[str]) -> str:
    """Give the command that installs these for the Python that runs."""
    import importlib.util

    wanted = shlex.join(requirements)
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {shlex.quote(sys.executable)} {wanted}"
    return f"{shlex.quote(sys.executable)} -m pip install {wanted}"


def _found(requirement: str, line: int) -> str | None:
    """Tell what is there in place of a requirement; None where it is met."""
    import importlib.metadata

    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement as error:
        text = str(error).partition("\n")[0]
        raise RequirementsProblem(f"{requirement!r} in {VARIABLE} is no requirement: {text}", line) from None
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    return None if wanted.specifier.contains(version, prereleases=True) else f"found {version}"
