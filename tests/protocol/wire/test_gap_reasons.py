"""A gap in words: which messages will not come, and why."""

import pytest

from co2.protocol.wire.gap_reasons import gap_words


@pytest.mark.parametrize(
    ("after", "following", "told"),
    [
        (1200, 1203, "the messages at positions 1201 to 1203 will not come (too old)"),
        (1200, 1201, "the message at position 1201 will not come (too old)"),
        # What begins anew ends before it begins: "over 1201 up to 1" is what nobody understood.
        (1201, 1, "the log was replaced; messages that are only in the old log will not come (too old)"),
        (1201, 1200, "the log was replaced; messages that are only in the old log will not come (too old)"),
        (0, 1, "the log was replaced; messages that are only in the old log will not come (too old)"),
    ],
)
def test_a_gap_says_which_messages_will_not_come(after: int, following: int, told: str) -> None:
    assert gap_words(after, following, "too old") == told
