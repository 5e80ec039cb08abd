"""What all tests need of the system."""

import contextlib
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.needs import other_address, skip_or_fail

settings.register_profile("quick", max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=10_000, deadline=None)
# 100 examples of each property unless --hypothesis-profile names one of these; `make quick` does.
# A test that wants more or fewer than others takes a multiple of settings().max_examples.

MANY_FILES = 4096
"""Hundreds of connections, both ends in one process. macOS begins with 256 files."""

with contextlib.suppress(ImportError, OSError, ValueError):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MANY_FILES:
        wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Run no test without what it ``needs``."""
    for mark in item.iter_markers("needs"):
        there, why = mark.args
        if not there:
            skip_or_fail(why)


@pytest.fixture
def imports_undone() -> Iterator[None]:
    """Have Python import as before; for other tests a bundled plugin is the one that was there."""
    modules, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    yield
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    for name, module in modules.items():
        if sys.modules.get(name) is not module:
            sys.modules[name] = module
            package, _, last = name.rpartition(".")
            if package in modules:
                setattr(modules[package], last, module)
    sys.path[:], sys.meta_path[:] = path, finders


@pytest.fixture
def far_ip() -> Iterator[str]:
    """An address of this machine that is not loopback, as somebody on another machine has it."""
    with other_address() as found:
        yield found
