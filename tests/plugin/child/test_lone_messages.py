"""A small message that comes alone is put into its frame at once: into the same one as any other."""

from hypothesis import given
from hypothesis import strategies as st

from co2.plugin.child.send_queue import _MAX_LONE_HEADS, SMALL, SendQueue
from co2.protocol.wire.plugin_frames.frames import Flush, encode_frame

packed = st.binary(min_size=1, max_size=SMALL)
small = packed | st.tuples(packed, st.text(max_size=30), st.just(False))


@given(small, small)
def test_it_is_the_same_frame(first: object, second: object) -> None:
    alone, other = SendQueue("ham.spam.X_Spam"), SendQueue("ham.spam.X_Spam")
    for entry in (first, second, first):
        alone.entries.append(entry)  # type: ignore[arg-type]
        other.entries.append(entry)  # type: ignore[arg-type]
        frame, _ = other.cut()
        assert alone.cut_lone() == encode_frame(frame)
        assert alone.entries == []


def test_whatever_is_not_alone_small_and_a_message_is_cut_like_all_others() -> None:
    big = bytes(SMALL + 1)
    others: list[list[object]] = [[], [b"1", b"2"], [Flush(1, 1.0)], [(b"1", "meter", True)], [(big, "", False)]]
    for entries in others:
        queue = SendQueue("ham.spam.X_Spam")
        queue.entries.extend(entries)  # type: ignore[arg-type]
        assert queue.cut_lone() == b""
        assert queue.entries == entries


def test_its_sender_may_write_full_frames_again() -> None:
    queue, fresh = SendQueue("ham.spam.X_Spam"), SendQueue("x")
    queue.alert = queue.limit
    queue.entries.append(b"1")
    queue.cut_lone()
    assert queue.alert == fresh.alert
    queue.close()
    queue.entries.append(b"1")
    queue.cut_lone()
    assert queue.alert == 0, "a closed queue stays closed"


def test_what_it_keeps_is_bounded() -> None:
    queue = SendQueue("ham.spam.X_Spam")
    for number in range(3 * _MAX_LONE_HEADS):
        queue.entries.append((b"1", f"channel.{number}", False))
        queue.cut_lone()
    assert len(queue._lone_heads) <= _MAX_LONE_HEADS
