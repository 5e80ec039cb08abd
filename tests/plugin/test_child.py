"""A plugin host that the machine does not let us start leaves nothing behind."""

import asyncio
import errno
import logging
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from co2.plugin.child import ProcessChild

OPEN = Path("/proc/self/fd")


def descriptors() -> int:
    return len([*OPEN.iterdir()])


@pytest.mark.skipif(not OPEN.is_dir(), reason="counts open files in /proc")
def test_where_there_are_no_more_files_none_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", no_more)
            before = descriptors()
            for _ in range(3):
                with pytest.raises(OSError, match="Too many open files"):
                    await ProcessChild(lambda frame: None, logging.getLogger("co2.plugins")).start()
            assert descriptors() == before

    asyncio.run(scenario())
