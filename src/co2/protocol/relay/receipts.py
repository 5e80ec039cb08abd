"""Receipts: signed statements of a relay about its log, which prove what it has stored and which nobody can forge.

A satellite that has read further than a log ever went shows that the log was rolled back: then all are told, and
get all of it again. Anybody could claim that; a receipt from this relay proves it. It covers messages that were on
disk, so a crash proves nothing. The key is in the state folder, outside the log, as the log may be an older copy.
"""

import hashlib
import hmac

import msgspec

from co2.protocol.wire.link_frames import Receipt

__all__ = ["ReceiptKey"]

_encode = msgspec.msgpack.Encoder().encode


class ReceiptKey:
    """Signs receipts and recognises its own.

    Args:
        secret: of the relay's state folder.
    """

    def __init__(self, secret: str) -> None:
        self._key = secret.encode()

    def sign(self, origin: str, log_id: str, run: str, position: int) -> Receipt:
        """Return a receipt for a satellite: in this log and run everything up to a position was on disk.

        It is useless to others: after a log was rolled back each satellite shows its own, or none.
        """
        return Receipt(log_id, run, position, self._mac(origin, log_id, run, position))

    def is_true(self, origin: str, receipt: Receipt) -> bool:
        """Return whether this receipt is one of ours, for this satellite."""
        return hmac.compare_digest(receipt.mac, self._mac(origin, receipt.log_id, receipt.run, receipt.position))

    def _mac(self, origin: str, log_id: str, run: str, position: int) -> bytes:
        return hmac.digest(self._key, _encode(("co2 receipt", origin, log_id, run, position)), hashlib.sha256)
