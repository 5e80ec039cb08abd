"""Plant changes in the code, one at a time, and name those that no test of their room notices: there tests sleep.

A change is a comparison, an operator, a condition or a number that becomes another, or a statement that is left
out. Which ones are tried is drawn by a seed, so that a run can be repeated, or go on at any of them; a change of
the code draws a few others in their places. Each is planted in a copy of the project, and tests run there until
the first that fails: those of the room that import the changed module, then those of the folder that mirrors the
module's, then the others of the room. A test that fails without the change too, or passes with it when it is run
again, as on a busy machine, has noticed nothing: the others are run without it.

Not tried: module-level constants, which tests read by their names; asserts, annotations, text, and whatever only
types need. A change that makes no difference anybody could see is listed in ``mutants_equivalent.toml`` with the
reason, and does not count.

mutmut and cosmic-ray were tried in its place. mutmut changes nothing below a decorator, so no property, and its
copy is not what plugin hosts import, which are processes; cosmic-ray changes the files of the project itself, one
at a time, and has no sample; neither leaves out a statement.
"""

import argparse
import ast
import concurrent.futures
import contextlib
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("protocol", "store", "server", "xmlrpc", "plugin")
"""Rooms that are changed unless others are named."""

EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")

TIMEOUT = 900
"""Seconds after which the tests have noticed a change: something hangs."""

TEST_TIMEOUT = 60
"""Seconds that one test may take."""

MAX_LEFT_OUT = 5
"""Tests that are left out, at most: with more, the machine is too busy to say anything."""

AIM = 0.95
"""Of the changes, as many are to be noticed."""

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}


@dataclass(frozen=True, order=True)
class Mutant:
    """One change.

    Attributes:
        path: of the module, from the project's folder.
        line: its number, from 1.
        start: where what is replaced begins, in bytes from the module's start.
        end: where it ends.
        text: what comes in its place.
        source: the line as it was.
    """

    path: str
    line: int
    start: int
    end: int
    text: str
    source: str

    @property
    def room(self) -> str:
        """The folder of ``src/co2`` that the module is in."""
        return Path(self.path).parts[2]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.source}  →  {self.text}"


class _Finder(ast.NodeVisitor):
    """Collects the changes that one module allows."""

    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._path = path
        self._source = source
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self._depth = 0

    def _add(self, node: ast.expr | ast.stmt, text: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        source = self._lines[node.lineno - 1].decode().strip()
        self.found.append(Mutant(self._path, node.lineno, start, end, text, source))

    def _replace(self, node: ast.expr, by: ast.expr) -> None:
        if self._depth:
            self._add(node, f"({ast.unparse(by)})")

    # what is left alone

    def _skip(self, node: ast.AST) -> None: ...

    visit_JoinedStr = visit_Assert = visit_Import = visit_ImportFrom = _skip

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if not any(ast.unparse(base).startswith("Protocol") for base in node.bases):
            for statement in node.body:
                self.visit(statement)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._depth += 1
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = _visit_function

    # statements

    def visit_Expr(self, node: ast.Expr) -> None:
        if self._depth and isinstance(node.value, ast.Call | ast.Await):
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if self._depth and all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._add(node, "pass")
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if self._depth:
            self._add(node, "pass")
            if (other := _OPERATORS.get(type(node.op))) is not None:
                self._add(node, ast.unparse(ast.AugAssign(node.target, other(), node.value)))
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        if self._depth:
            self._add(node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "break")

    def _visit_condition(self, node: ast.If | ast.While | ast.IfExp) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node.test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr):
            self._replace(node.test, ast.UnaryOp(ast.Not(), node.test))
        self.generic_visit(node)

    visit_If = visit_While = visit_IfExp = _visit_condition

    # expressions

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, operator in enumerate(node.ops):
            other = _COMPARISONS[type(operator)]()
            self._replace(
                node, ast.Compare(node.left, [*node.ops[:at], other, *node.ops[at + 1 :]], node.comparators)
            )
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        is_type = isinstance(node.op, ast.BitOr) and _is_type(node.right)
        if not is_type and not isinstance(node.left, ast.Constant | ast.JoinedStr):
            if (other := _OPERATORS.get(type(node.op))) is not None:
                self._replace(node, ast.BinOp(node.left, other(), node.right))
            self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._replace(node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, node.operand)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, ast.Constant(not node.value))
        elif isinstance(node.value, int | float):
            self._replace(node, ast.Constant(node.value + 1))


def _is_type(node: ast.expr) -> bool:
    """Return whether an operand of ``|`` is a class, or None: it makes a union of types."""
    name = ast.unparse(node).rpartition(".")[2]
    return (
        name == "None" or name[:1].isupper() or name in ("bytes", "str", "int", "float", "memoryview", "bytearray")
    )


def find_mutants(rooms: tuple[str, ...]) -> list[Mutant]:
    """Return all changes that can be planted in these rooms, in order."""
    found: list[Mutant] = []
    for room in rooms:
        for path in sorted((ROOT / "src/co2" / room).rglob("*.py")):
            source = path.read_bytes()
            finder = _Finder(str(path.relative_to(ROOT)), source)
            finder.visit(ast.parse(source))
            found += finder.found
    return sorted(set(found))


def sample_of(mutants: list[Mutant], seed: int, count: int) -> list[Mutant]:
    """Draw changes. Each has its own lot, so that code which comes or goes elsewhere leaves the others drawn."""

    def lot(mutant: Mutant) -> float:
        return random.Random(f"{seed}\n{mutant.path}\n{mutant.source}\n{mutant.text}").random()

    return sorted(mutants, key=lot)[:count]


def equivalents() -> list[dict[str, str]]:
    """Return what makes no difference: tables of ``path``, ``source``, ``text`` and ``reason``."""
    found: list[dict[str, str]] = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("mutant", [])
    return found


class Workspace:
    """A copy of the project in which changes are planted.

    Args:
        folder: where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ignored = shutil.ignore_patterns(
            ".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "node_modules"
        )
        shutil.copytree(ROOT, folder, ignore=ignored)

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """Have the change in the copy, until the context ends."""
        path = self._folder / mutant.path
        source = path.read_bytes()
        path.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.end :])
        self._forget_compiled(path)
        try:
            yield
        finally:
            path.write_bytes(source)
            self._forget_compiled(path)

    def _forget_compiled(self, path: Path) -> None:
        """A second change within a second may look like the first to Python."""
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def tests(self, mutant: Mutant) -> list[str]:
        """Return test files of the room: that import the module, of the mirroring folder, then all others."""
        module = Path(mutant.path).relative_to("src/co2")
        name = ".".join(("co2", *module.with_suffix("").parts))
        package, _, last = name.rpartition(".")
        wanted = re.compile(rf"(from|import) {re.escape(name)}\b|from {re.escape(package)} import .*\b{last}\b")
        tests = self._folder / "tests"
        found = [
            path
            for path in sorted((tests / mutant.room).rglob("test_*.py"))
            if wanted.search(path.read_text(encoding="utf-8"))
        ]
        for folder in (tests / module.parent, tests / mutant.room):
            found += [path for path in sorted(folder.rglob("test_*.py")) if path not in found]
        return [str(path.relative_to(self._folder)) for path in found]

    def run(self, tests: list[str]) -> tuple[int, str]:
        """Run tests until one fails; return the exit status, -1 where time was up, and what pytest printed."""
        command = [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "--no-header", "-p", "no:cacheprovider"),
            *("-p", "no:xdist", "--hypothesis-seed=0", f"--timeout={TEST_TIMEOUT}", *tests),
        ]
        environment = {**os.environ, "PYTHONPATH": str(self._folder / "src")}
        # In a session of its own: whatever a changed host leaves behind ends with it.
        process = subprocess.Popen(
            command, cwd=self._folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return -1, ""
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode, output


def _failed(output: str) -> str:
    """Return the test that failed first, as pytest names it; '' where none could be run."""
    found = re.search(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", output, re.MULTILINE)
    return found[1] if found else ""


def is_noticed(space: Workspace, mutant: Mutant) -> tuple[str, list[str]]:
    """Return what notices a change, '' for nothing; and the tests that were left out.

    Raises:
        RuntimeError: too many tests fail for other reasons, or they cannot be imported.
    """
    left_out: list[str] = []
    tests = space.tests(mutant)
    while tests and len(left_out) <= MAX_LEFT_OUT:
        with space.planted(mutant):
            status, output = space.run([*tests, *(f"--deselect={one}" for one in left_out)])
        if status == 0:
            return "", left_out
        if status < 0:
            return "the time it takes", left_out
        failed = _failed(output)
        if "::" not in failed:  # a test file cannot be imported, or pytest itself, as while .venv is made anew
            again, output = space.run(["--collect-only", failed or tests[0]])
            if again == 0:
                return f"{failed or 'pytest'}, which cannot be imported", left_out
            raise RuntimeError(
                f"{failed or 'pytest'} cannot be imported without the change either: {output[-200:]}"
            )
        test = failed.partition("[")[0]
        without, _ = space.run([test])
        if without == 0:
            with space.planted(mutant):
                again, _ = space.run([test])
            if again != 0:
                return failed, left_out
        left_out.append(test)
    if tests:
        raise RuntimeError(f"these tests fail now and then, whatever is changed: {', '.join(left_out)}")
    return "", left_out


def try_mutants(
    mutants: list[tuple[int, Mutant]], jobs: int, say: Callable[[str], None]
) -> tuple[list[Mutant], int]:
    """Plant changes, each with its number in the sample, one after the other in each of ``jobs`` copies.

    Returns:
        Those that nothing noticed, and how many were tried, without those where too many tests fail anyway.
    """
    asleep: list[Mutant] = []
    unsure: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="co2-mutants-") as folder:
        spaces: queue.SimpleQueue[Workspace] = queue.SimpleQueue()
        for number in range(jobs):
            spaces.put(Workspace(Path(folder) / str(number)))

        def attempt(numbered: tuple[int, Mutant]) -> None:
            number, mutant = numbered
            space = spaces.get()
            began = time.monotonic()
            try:
                noticed, left_out = is_noticed(space, mutant)
            except RuntimeError as error:
                unsure.append(mutant)
                say(f"{number} UNSURE {mutant}\n    {error}")
                return
            finally:
                spaces.put(space)
            took = f"{time.monotonic() - began:.0f} s"
            if noticed:
                say(f"{number} noticed ({took}) {mutant}\n    by {noticed}")
            else:
                asleep.append(mutant)
                say(f"{number} NOT NOTICED ({took}) {mutant}")
            for test in left_out:
                say(f"    without {test}, which fails now and then")

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            list(pool.map(attempt, mutants))
    return sorted(asleep), len(mutants) - len(unsure)


def main() -> int:
    """Return 0 where as many changes were noticed as we aim for, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="draws the sample")
    parser.add_argument("--count", type=int, default=60, help="of changes in the sample")
    parser.add_argument("--first", type=int, default=1, help="number in the sample at which this run begins")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the project that are tested side by side")
    parser.add_argument("--rooms", nargs="*", default=ROOMS, help="folders of src/co2")
    parser.add_argument("--only", default="", help="path:line of one place, in the place of a sample")
    parser.add_argument("--list", action="store_true", help="name the changes, and plant none")
    options = parser.parse_args()
    say = partial(print, flush=True)
    known = {(one["path"], one["source"], one["text"]) for one in equivalents()}
    found = [one for one in find_mutants(tuple(options.rooms)) if (one.path, one.source, one.text) not in known]
    if options.only:
        sample = [mutant for mutant in found if f"{mutant.path}:{mutant.line}" == options.only]
    else:
        sample = sample_of(found, options.seed, options.count)
    numbered = [*enumerate(sample, 1)][options.first - 1 :]
    if options.list:
        say("\n".join(f"{number} {mutant}" for number, mutant in numbered))
        return 0
    began = time.monotonic()
    asleep, tried = try_mutants(numbered, options.jobs, say)
    rate = 1 - len(asleep) / max(1, tried)
    say(f"\n{tried} of {len(found)} changes, seed {options.seed}, {time.monotonic() - began:.0f} s:")
    say(f"noticed {rate:.1%}, aim {AIM:.0%}")
    for mutant in asleep:
        say(f"not noticed: {mutant}")
    return int(rate < AIM)


if __name__ == "__main__":
    sys.exit(main())
