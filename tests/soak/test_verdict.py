"""The judge of the soak, judged."""

from tests.soak.verdict import Receiver, Row, Sender


def rows(text: str) -> list[Row]:
    found = []
    for part in text.split(","):
        word, first, second = [*part.split(), "-", "-"][:3]
        found.append((word, first, second))
    return found


def judged(text: str, durable: bool = False) -> Receiver:
    receiver = Receiver(durable)
    first, *rest = rows(text)
    receiver.take([first])
    receiver.settled()
    receiver.take(rest)
    return receiver


def test_what_comes_once_and_in_order_is_right() -> None:
    receiver = judged("START 1, GOT a 0, GOT a 1, GOT b 0, GOT a 2")
    assert receiver.violations == []
    assert receiver.missing({"a": 3, "b": 1}) == {}
    assert receiver.missing({"a": 4, "b": 3, "c": 4, "d": 0}) == {"a": 1, "b": 2, "c": 4}


def test_a_loss_a_double_and_a_wrong_order_are_found() -> None:
    assert judged("START 1, GOT a 0, GOT a 2").violations
    assert judged("START 1, GOT a 1").violations
    assert judged("START 1, GOT a 0, GOT a 0").violations
    assert judged("START 1, GOT a 0, GOT a 1, GOT a 2, GOT a 1").violations
    assert judged("START 1, GOT a 0, START 1, GOT a 2").violations
    assert judged("START 1, GOT a 0, START 2, GOT a 2", durable=True).violations


def test_what_may_be_may_be() -> None:
    assert not judged("START 1, GOT a 0, GAP, GOT a 2").violations
    assert not judged("START 1, GOT a 0, START 1, AGAIN a 0, GOT a 1").violations
    assert not judged("START 1, GOT a 0, START 2, GOT a 9").violations
    assert not judged("START 1, GOT a 0, GOT a 1, START 2, GOT a 1").violations
    assert not judged("START 1, GOT a 0, GOT a 1, GOT a 2, START 2, GOT a 1, GOT a 2", durable=True).violations
    assert not judged("START 1, GOT a 0, GOT a 1, START 2, GAP, GOT a 0").violations
    assert judged("START 1, GOT a 0, GOT a 1, GAP, GOT a 0").violations


def test_what_was_flushed_is_safe_and_what_ended_is_all() -> None:
    sender = Sender()
    sender.take(rows("FLUSHED a 7, FLUSHED b 3, END a 9"))
    assert sender.safe == {"a": 9, "b": 3}
    assert sender.ended == {"a": 9}
