"""Carry a plugin without a host: what it sends and logs is kept, its configuration is given."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from co2.values import pack, unpack


@contextmanager
def carried(cls: type, **config: Any) -> Iterator[Any]:
    """Make a plugin of that class and end it. ``sent`` and ``logged`` hold what it did."""

    class Carried(cls):  # type: ignore[misc]
        sent: ClassVar[list[dict[str, Any]]] = []
        logged: ClassVar[list[str]] = []
        refuse: Exception | None = None

        @property
        def config(self) -> dict[str, Any]:
            return dict(config)

        @config.setter
        def config(self, _value: Any) -> None:
            """What the real one would set."""

        def send(self, data_dict: dict[str, Any]) -> None:
            if self.refuse:
                raise self.refuse
            self.sent.append(unpack(pack(data_dict)))

        def log(self, text: str, *values: Any) -> None:
            self.logged.append(text % values)

        def debug(self, text: str, *values: Any) -> None:
            assert isinstance(text % values, str)

    Carried.sent, Carried.logged = [], []
    instance = Carried({})
    try:
        yield instance
    finally:
        instance.__exit__()
