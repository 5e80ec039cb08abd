"""A gap in words, the same in every log and in ``co2 watch``."""

__all__ = ["gap_words"]

_BEGINNING = 1


def gap_words(after: int, following: int, reason: str) -> str:
    """Return in words which messages will not come, and why.

    Args:
        after: position of the last message before the gap.
        following: position of the last one that is missing.
        reason: why.
    """
    if following <= max(after, _BEGINNING):
        return f"the log was replaced; messages that are only in the old log will not come ({reason})"
    if following == after + 1:
        return f"the message at position {following} will not come ({reason})"
    return f"the messages at positions {after + 1} to {following} will not come ({reason})"
