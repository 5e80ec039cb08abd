"""Bugs that are planted one at a time, to see that the oracles find them."""
import contextlib
from collections.abc import Iterator
BUGS: dict[str, object] = {}
@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    yield
