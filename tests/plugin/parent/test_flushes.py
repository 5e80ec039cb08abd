"""Flushes that nobody waits for any more: nor does their host, however long the relay is away."""

import asyncio
from pathlib import Path

from tests.plugin.support import carrying, in_loop, write_package

PLUGIN = """
class X_Ham(plugin.Co2Plugin):
    def x_flush(self, data_dict):
        for number in range(data_dict["data"]):
            self.send({"data": number})
            try:
                self.flush(0.01)
            except TimeoutError:
                continue
        return True
"""


def waiting() -> int:
    """How many tasks of the host wait for an acknowledgement."""
    return sum("PackageFlushes._answer" in repr(task.get_coro()) for task in asyncio.all_tasks())


@in_loop
async def test_a_flush_that_was_given_up_is_not_waited_for(tmp_path: Path) -> None:
    async with carrying([write_package(tmp_path, "ham", spam=PLUGIN)]) as it:
        it.acknowledged.clear()
        assert await it.call("ham.spam.flush", 40)
        await it.until(lambda: len(it.published) == 40)
        await it.until(lambda: not waiting(), "all of them are given up")
        it.acknowledged.set()
        assert await it.call("ham.spam.flush", 1)
