"""One direction of a connection in memory."""

__all__ = ["MemoryWire"]


class MemoryWire:
    """What one side has written and the other has not read yet."""

    is_full = False

    def __init__(self) -> None:
        self._frames: list[bytes] = []

    def write(self, frames: list[bytes]) -> None:
        """Write frames."""
        self._frames += frames

    def close(self) -> None:
        """Do nothing: the last frame is a Goodbye, and ends the link."""

    def taken(self) -> list[bytes]:
        """Return the frames, and forget them."""
        frames, self._frames = self._frames, []
        return frames
