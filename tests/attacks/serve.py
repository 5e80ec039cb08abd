"""A server as both roles have it, in a process of its own, with deadlines that a test can wait for.

``python -m tests.attacks.serve FOLDER`` prints its port and serves until stdin ends.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from co2.logs import setup_logs
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer, bind_socket
from co2.values import RECURSION_LIMIT
from co2.web.headers import answer
from co2.web.page import PageAnswer, PageRequest
from co2.xmlrpc.introspection import add_introspection
from co2.xmlrpc.registry import Caller, Registry

LIMITS = Limits(
    newcomer_grace=0.1,
    head_timeout=0.6,
    body_timeout=1.2,
    body_grace=0.4,
    write_timeout=0.6,
    write_rate=2**20,
    linger_timeout=0.5,
    idle_timeout=2.0,
)


async def wait(params: Sequence[Any], _caller: Caller) -> Any:
    """Wait for so many seconds."""
    await asyncio.sleep(params[0])
    return True


def broken(_params: Sequence[Any], _caller: Caller) -> Any:
    """Raise what no caller may see."""
    raise KeyError("canary-secret")


async def page(_request: PageRequest) -> PageAnswer:
    return answer(b"a page", "text/plain; charset=utf-8")


async def broken_page(_request: PageRequest) -> PageAnswer:
    raise KeyError("canary-secret")


async def split_page(request: PageRequest) -> PageAnswer:
    return PageAnswer(b"split", 200, {"X-Echo": "a\r\nSet-Cookie: b"})


async def serve(folder: Path) -> None:
    registry = Registry()
    server = HttpServer(
        registry=registry,
        pages={"/": page, "/broken": broken_page, "/split": split_page},
        limits=LIMITS,
        allowed_hosts=["stage.example"],
        access_log=logging.getLogger("co2.access"),
    )
    add_introspection(
        registry,
        lambda _caller: {
            "connections": server.connections,
            "dropped": dict(server.dropped),
            "faults": {str(code): number for code, number in server.faults.items()},
            "requests": {str(status): number for status, number in server.requests.items()},
        },
    )
    registry.add("wait", wait, help="", signatures=[["boolean", "double"]])
    registry.add("broken", broken, help="", signatures=[["any"]])
    sock = bind_socket("127.0.0.1", 0, next_free=False)
    with setup_logs(folder):
        await server.start(sock)
        sys.stdout.write(json.dumps({"port": sock.getsockname()[1], "limits": asdict(LIMITS)}) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop()


if __name__ == "__main__":
    sys.setrecursionlimit(RECURSION_LIMIT)
    asyncio.run(serve(Path(sys.argv[1])))
