"""What is delivered next is known before: with which number, and whether at once."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from co2.plugin.parent.delivery import NETWORK, Delivery
from co2.plugin.parent.delivery_queue import WINDOW, Envelope, QueuedBatch
from co2.protocol.wire.batch import make_batch
from co2.protocol.wire.plugin_frames.frames import Deliver, Gap

ROOM = 64 * 1024
ENVELOPE = Envelope("a@1.2.3.4:5", ("1.2.3.4", 5))

steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.sampled_from([NETWORK, "ham"]), st.sampled_from([10, 1000, WINDOW])),
        st.tuples(st.just("done"), st.integers(0, 30)),
        st.sampled_from([("hold",), ("begin",), ("resume",)]),
    ),
    max_size=30,
)


@given(steps)
def test_the_number_of_what_is_delivered_next(todo: list[tuple[Any, ...]]) -> None:
    given: list[Deliver | Gap] = []
    delivery = Delivery(lambda: None)
    for what, *rest in todo:
        if what == "deliver":
            source, size = rest
            number, before = delivery.next_number(ROOM), len(given)
            queued = QueuedBatch(ENVELOPE, make_batch([bytes(size)]), 1)
            delivery.deliver(source, queued)
            told = [frame for frame in given[before:] if isinstance(frame, Deliver)]
            assert [frame.first for frame in told] == ([number] if number else [])
            assert not told or told[0].batch is queued.batch
        elif what == "done":
            delivery.done(min(rest[0], delivery.window.last))
        elif what == "hold":
            delivery.hold()
        else:
            getattr(delivery, what)(given.append)
