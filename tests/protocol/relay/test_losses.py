"""Losses are reported once, in their place; of too many the oldest are forgotten."""

from co2.protocol.relay.losses import MAX_LOSSES, Loss, Losses


def loss(position: int) -> Loss:
    return Loss(position, "ham", "gone")


def test_a_reader_gets_each_loss_once_before_what_follows_it() -> None:
    losses = Losses([loss(10), loss(20)])
    assert losses.next(None, 5, 10) == (None, 0), "it lies behind the last message that was read"
    assert losses.next(None, 5, 11) == (loss(10), 1)
    assert losses.next(1, 5, 20) == (None, 1)
    assert losses.next(1, 5, 21) == (loss(20), 2)
    assert losses.next(2, 5, 99) == (None, 2)


def test_a_reader_that_begins_later_gets_only_what_comes_from_there_on() -> None:
    losses = Losses([loss(10), loss(20)])
    assert losses.next(None, 10, 99) == (loss(10), 1)
    assert losses.next(None, 11, 99) == (loss(20), 2)
    assert losses.next(None, 21, 99) == (None, 2)


def test_the_oldest_of_too_many_are_forgotten_and_no_reader_gets_another_twice() -> None:
    losses = Losses()
    for position in range(MAX_LOSSES + 2):
        losses.add(loss(position))
    assert [one.position for one in losses] == [*range(2, MAX_LOSSES + 2)]
    assert losses.next(0, 0, 10**9) == (loss(2), 3)
    assert losses.next(3, 0, 10**9) == (loss(3), 4)
    assert losses.next(None, 3, 10**9) == (loss(3), 4)
