"""Check whether a package can be loaded, and report all obstacles: for ``co2 plugin check``.

Its files are parsed, and it is imported as by the loader, in its own process; no instance of its classes is made.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from co2.config.private import Trust
from co2.errors import ConfigError
from co2.plugin.packages.environment import environment_of
from co2.plugin.packages.near_misses import IDLE
from co2.plugin.packages.requirements import (
    RequirementsProblem,
    check_requirements,
    install_command,
    read_requirements,
)
from co2.plugin.packages.source import own_files

if TYPE_CHECKING:
    from co2.plugin.packages.loader import FoundPlugin, LoadFailure

__all__ = ["IMPORT_TIMEOUT", "Finding", "check_package"]

IMPORT_TIMEOUT = 20.0
"""Seconds within which a package must be imported."""

_PLACE = re.compile(r"(.*?):(\d+)(?:, class .*)?")
_NOT_IN_NAME = re.compile(r"[^\w.-]")
_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a package.

    Attributes:
        problem: what was found, and what was expected.
        file: that has the problem.
        line: in the file, 0 if it has none.
        mend: what to do, unless the problem says it.
        fatal: the package is not loaded; otherwise a part of it is ignored.
    """

    problem: str
    file: str
    line: int = 0
    mend: str = ""
    fatal: bool = True


def check_package(
    path: Path,
    table: Mapping[str, Any] | None = None,
    config_file: str = "",
    trust: Trust | None = None,
    env: Sequence[str] = (),
) -> tuple[list[Finding], list[str]]:
    """Check a package.

    Args:
        path: its folder, or the single file.
        table: its configuration; None to skip that check.
        config_file: file with that configuration.
        trust: owners accepted beside ourselves and root.
        env: names of variables that it gets beside the usual ones.

    Returns:
        The problems, and the names of its plugins and methods as far as they were found.
    """
    findings = [*_from_outside(path, trust or Trust())]
    if findings:
        return findings, []
    file = path if path.is_file() else path / "__init__.py"
    unmet = [*_requirements(file)]
    unreadable, unfit = _read_files(path)
    order = {
        "package": path.name.removesuffix(".py"),
        "folder": str(path.parent),
        "file": config_file,
        "table": table,
        "unmet": bool(unmet),
        "required": _required(file),
        "env": [*env],
    }
    refused, names, imported = _import_apart(path, order)
    # Problems in a file that nobody imports, or in a class that is no plugin, do not keep the package from
    # loading.
    if imported:
        places = {(finding.file, finding.line) for finding in refused}
        unreadable = [replace(one, fatal=(one.file, one.line) in places) for one in unreadable]
        unfit = {name: found for name, found in unfit.items() if name in names}
    findings = [*unmet, *unreadable, *(one for found in unfit.values() for one in found)]
    places = {(finding.file, finding.line) for finding in unreadable}
    findings += [one for one in refused if (one.file, one.line) not in places]
    if any(one.fatal for one in findings):
        # A package with problems is unfinished, so a class that does nothing yet is not reported.
        findings = [one for one in findings if one.fatal or IDLE not in one.problem]
    return findings, names


# ---- reading -------------------------------------------------------------------------------------------


def _from_outside(path: Path, trust: Trust) -> Iterator[Finding]:
    from co2.plugin.packages.discovery import OpenCode, name_problem, package_problem

    name = path.name.removesuffix(".py")
    if problem := name_problem(name):
        yield Finding(problem, str(path))
    elif name in sys.stdlib_module_names:
        yield Finding(
            f"{name!r} is the name of a module that Python or co2 itself needs: rename the package", str(path)
        )
    if problem := OpenCode(path.parent, trust).problem_of(path):
        yield Finding(problem, str(path))
    if problem := package_problem(path):
        yield Finding(problem, str(path))


def _requirements(file: Path) -> Iterator[Finding]:
    try:
        check_requirements(file.read_bytes())
    except RequirementsProblem as error:
        yield Finding(error.problem, str(file), error.line)
    except OSError:
        return  # parsing it reports what is wrong


def _required(file: Path) -> list[str]:
    """Return the names of a package's requirements, in the form of module names."""
    try:
        requires, _ = read_requirements(file.read_bytes())
    except (RequirementsProblem, OSError):
        return []
    return [_NOT_IN_NAME.split(one.strip(), 1)[0].lower().replace("-", "_") for one in requires]


def _read_files(path: Path) -> tuple[list[Finding], dict[str, list[Finding]]]:
    """Return the files that Python cannot parse, and the problems of classes by their full name."""
    unreadable: list[Finding] = []
    unfit: dict[str, list[Finding]] = {}
    for file in own_files(path):
        if file.suffix != ".py":
            continue
        try:
            tree = ast.parse(file.read_bytes(), str(file))
        except SyntaxError as error:
            mend = "Python cannot parse this line"
            unreadable.append(Finding(f"SyntaxError: {error.msg}", str(file), error.lineno or 0, mend))
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            unreadable.append(Finding(f"cannot be read: {type(error).__name__}: {error}", str(file)))
        else:
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and node.name.startswith("X_"):
                    unfit[f"{_module(path, file)}.{node.name}"] = [*_read_class(node, file)]
    return unreadable, unfit


def _module(path: Path, file: Path) -> str:
    """Return ``<package>.<module>`` of a file of a package."""
    if path.is_file():
        return f"{path.stem}.{path.stem}"
    parts = file.relative_to(path).with_suffix("").parts
    return ".".join((path.name, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _read_class(node: ast.ClassDef, file: Path) -> Iterator[Finding]:
    for function in node.body:
        if isinstance(function, ast.AsyncFunctionDef) and function.name == "__init__":
            mend = "write def __init__, and await in another method"
            yield Finding(f"{node.name}.__init__ is async", str(file), function.lineno, mend)
        if isinstance(function, ast.FunctionDef) and function.name == "__init__" and not _calls_init(function):
            yield Finding(
                f"{node.name}.__init__ does not call super().__init__",
                str(file),
                function.lineno,
                "begin it with super().__init__(var_dict)",
            )


def _calls_init(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "__init__" for node in ast.walk(function))


# ---- importing -----------------------------------------------------------------------------------------


def _import_apart(path: Path, order: Mapping[str, Any]) -> tuple[list[Finding], list[str], bool]:
    """Import the package in its own process; return problems, names, and whether all of it was checked."""
    # No pipe: nobody reads before the process has ended, and its output may be long.
    with tempfile.TemporaryFile() as answers:
        writer = answers.fileno()
        command = [sys.executable, "-P", "-m", "co2.plugin.packages.check", str(writer)]
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                command,
                pass_fds=[writer],
                # Not as an argument: other users can read those, and a configuration may have a password.
                input=json.dumps(order, default=str).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment_of(os.environ, order["env"]),
                timeout=IMPORT_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [Finding(f"hangs: the import took longer than {IMPORT_TIMEOUT:g} s", str(path))], [], False
        answers.seek(0)
        answer = answers.read()
    if not answer:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        problem = f"Python ended with exit status {done.returncode} during the import: {last[:200]}"
        return [Finding(problem, str(path))], [], False
    told = json.loads(answer)
    return [Finding(**finding) for finding in told["findings"]], told["names"], told["imported"]


def _import_here(order: Mapping[str, Any]) -> dict[str, Any]:
    from co2.plugin.packages.loader import LoadFailure, find_plugins, import_package
    from co2.plugin.packages.typed_config import Configs

    failures: list[LoadFailure] = []
    warnings: list[str] = []
    names: list[str] = []
    ignored: list[Finding] = []
    imported = False
    try:
        module = import_package(order["package"], order["folder"], unmet=order["unmet"])
        found, warnings = find_plugins(order["package"], module, failures.append)
        imported = True
        names = [name for one in found for name in (one.name, *one.methods)]
        ignored = [finding for one in found for finding in _without_effect(one)]
        if order["table"] is not None and found:
            kinds = [one.kind for one in found]
            Configs(order["package"], order["table"], order["file"], module, kinds).check()
    except LoadFailure as failure:
        failures.append(failure)
    except ConfigError as error:
        failures.append(LoadFailure(error.problem, error.where))
    findings = [one for failure in failures if (one := _finding_of(failure, order)) is not None]
    findings += [*ignored, *(_finding(*reversed(warning.split(": ", 1)), fatal=False) for warning in warnings)]
    return {"findings": [asdict(finding) for finding in findings], "names": names, "imported": imported}


def _without_effect(found: "FoundPlugin") -> Iterator[Finding]:
    """Yield the attributes of a class that have no effect on its host."""
    from co2.plugin.packages.class_checks import without_effect

    for problem, place, mend in without_effect(found.kind):
        yield replace(_finding(problem, place or found.where, fatal=False), mend=mend)


def _finding_of(failure: "LoadFailure", order: Mapping[str, Any]) -> Finding | None:
    """Convert a failure to a finding; None for a module of a missing requirement, which is reported already."""
    finding = _finding(failure.problem, failure.where)
    missing = _MISSING_MODULE.search(failure.problem)
    if missing is None or not order["unmet"]:
        return finding
    if missing[1].partition(".")[0].lower() in order["required"]:
        return None
    mend = f"one of the package's requirements may provide it: install those first. Otherwise {finding.mend}"
    return replace(finding, mend=mend)


def _finding(problem: str, where: str, *, fatal: bool = True) -> Finding:
    mend = ""
    if missing := _MISSING_MODULE.search(problem):
        name = missing[1].partition(".")[0]
        mend = f'if it is a library, say requires = ("{name}",) in the package, and: {install_command([name])}'
    place = _PLACE.fullmatch(where)
    if place is None:
        return Finding(problem, where, mend=mend, fatal=fatal)
    return Finding(problem, place[1], int(place[2]), mend, fatal)


def main() -> None:
    """Import the package that standard input names, and write the problems to a file; never return."""
    descriptor, order = int(sys.argv[1]), json.load(sys.stdin)
    sys.dont_write_bytecode = True
    answer = json.dumps(_import_here(order)).encode()
    with os.fdopen(descriptor, "wb") as file:
        file.write(answer)
    os._exit(0)  # even if the package has started threads


if __name__ == "__main__":
    main()
