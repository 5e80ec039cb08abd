"""Receipts: what a relay has told of its log, signed, so that it can be held to it, and nobody can make it up.

A satellite that has read further than a log ever went proves that the log was rolled back: everybody is told then,
and gets all of it again. Anybody can say so; a receipt that this relay has given shows it. It is over what was on
disk, so a crash proves nothing. The key lies beside the log in the state folder: the log may be an older copy.
"""

import hashlib
import hmac

import msgspec

from co2.protocol.wire.link_frames import Receipt

__all__ = ["ReceiptKey"]

_encode = msgspec.msgpack.Encoder().encode


class ReceiptKey:
    """Makes receipts and knows its own.

    Args:
        secret: of the relay's state folder.
    """

    def __init__(self, secret: str) -> None:
        self._key = secret.encode()

    def sign(self, origin: str, log_id: str, run: str, position: int) -> Receipt:
        """Return a receipt for a satellite: in this log and run everything up to a position was on disk.

        It is of no use to others: after a log was rolled back each shows its own, or nothing.
        """
        return Receipt(log_id, run, position, self._mac(origin, log_id, run, position))

    def is_true(self, origin: str, receipt: Receipt) -> bool:
        """Return whether this is one of ours, for this satellite."""
        return hmac.compare_digest(receipt.mac, self._mac(origin, receipt.log_id, receipt.run, receipt.position))

    def _mac(self, origin: str, log_id: str, run: str, position: int) -> bytes:
        return hmac.digest(self._key, _encode(("co2 receipt", origin, log_id, run, position)), hashlib.sha256)
