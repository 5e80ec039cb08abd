from collections.abc import Callable, Mapping, Sized
from typing import Any

SOURCE: int

class Level:
    alert: int
    cause: int
    run: int
    thread: int

class Sleeper:
    asleep: bool

class Send:
    def __init__(
        self,
        queue: Level,
        entries: list[Any],
        writer: Any,
        encode: Callable[[Any], bytes],
        place: Callable[[bytes, str | None], None],
        other: Callable[[Mapping[str, Any]], None],
        small: int,
        short_channel: int,
    ) -> None: ...
    def __call__(self, data_dict: Mapping[str, Any]) -> None: ...

def listen(data: int, wakeup: int, buffer: memoryview, /) -> int: ...
def give(
    messages: list[Any],
    at: int,
    end: int,
    words: memoryview[int],
    index: int,
    first: int,
    jobs: Sized,
    wants: Callable[[Any], bool] | None,
    receive: Callable[[Any], Any],
    host_id: str,
    client_address: tuple[str, int],
    level: Any = None,
    cause: int = 0,
    /,
) -> tuple[int, Any]: ...
