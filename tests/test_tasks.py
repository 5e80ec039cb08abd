"""Tasks beside their owner: kept, counted, cancelled, and told of where they fail."""

import asyncio
import logging

import pytest

from co2.tasks import TaskSet
from tests.plugin.support import in_loop

LOGGER = logging.getLogger("co2.test_tasks")


async def fails() -> None:
    raise ValueError("no luck")


@in_loop
async def test_a_task_is_kept_until_it_has_ended() -> None:
    tasks, go_on = TaskSet(LOGGER, "a task of the test"), asyncio.Event()
    task = tasks.start(go_on.wait())
    assert list(tasks) == [task]
    go_on.set()
    assert await task
    await asyncio.sleep(0)
    assert len(tasks) == 0


@in_loop
async def test_stop_cancels_what_has_not_ended() -> None:
    tasks = TaskSet(LOGGER, "a task of the test")
    task = tasks.start(asyncio.Event().wait())
    await tasks.stop()
    assert task.cancelled()


def test_an_error_is_logged_under_the_name_of_the_task(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        tasks = TaskSet(LOGGER, "a task of the test")
        await asyncio.wait([tasks.start(fails()), tasks.start(fails(), name="the watch")])

    asyncio.run(scenario())
    assert sorted(record.getMessage() for record in caplog.records) == [
        "a task of the test ended with an internal error",
        "the watch ended with an internal error",
    ]
