"""Requirements of a package besides co2: ``requires = ("numpy>=2",)`` in its ``__init__.py``.

They are read before any code of the package runs. Missing ones are reported with the command that installs them;
nothing is installed automatically.
"""

import ast
import shlex
import sys
from collections.abc import Sequence

__all__ = ["RequirementsProblem", "check_requirements", "install_command", "read_requirements"]

VARIABLE = "requires"

_WANTED = f'{VARIABLE} must be a tuple of names with versions, such as ("numpy>=2", "pyserial")'


class RequirementsProblem(Exception):
    """A missing or malformed requirement.

    Not a Co2Error: it never leaves this subpackage. The loader turns it into a LoadFailure, ``co2 plugin check``
    into a finding.

    Args:
        problem: in words.
        line: of ``requires``.
    """

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


def check_requirements(source: bytes) -> None:
    """Check that all requirements of a package are installed.

    Args:
        source: of its ``__init__.py``, or of its single file.

    Raises:
        RequirementsProblem: a requirement is missing or malformed.
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
    """Return the value of ``requires`` and its line; nothing is executed.

    Raises:
        RequirementsProblem: not a tuple of text.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], 0  # importing it reports what is wrong
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not any(isinstance(target, ast.Name) and target.id == VARIABLE for target in targets):
            continue
        try:
            value = ast.literal_eval(getattr(node, "value", None))  # type: ignore[arg-type]  # None: TypeError
        except (ValueError, TypeError, RecursionError):
            raise RequirementsProblem(f"{_WANTED}: it is read, not executed", node.lineno) from None
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise RequirementsProblem(f"{_WANTED}; a tuple of one item needs a comma", node.lineno)
        return list(value), node.lineno
    return [], 0


def install_command(requirements: Sequence[str]) -> str:
    """Return the command that installs these for the running Python."""
    import importlib.util

    wanted = shlex.join(requirements)
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {shlex.quote(sys.executable)} {wanted}"
    return f"{shlex.quote(sys.executable)} -m pip install {wanted}"


def _found(requirement: str, line: int) -> str | None:
    """Return what is installed in place of a requirement; None if it is met."""
    import importlib.metadata

    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement as error:
        text = str(error).partition("\n")[0]
        raise RequirementsProblem(
            f"{requirement!r} in {VARIABLE} is not a valid requirement: {text}", line
        ) from None
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    return None if wanted.specifier.contains(version, prereleases=True) else f"found {version}"
