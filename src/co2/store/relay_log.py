"""Placeholder until the durable one is merged."""

import secrets
import threading
import time

from co2.protocol.batch import batch_count
from co2.protocol.log import Entry, LogGap, Reading


class RelayLog:
    replaced = ""
    bytes = 0

    def __init__(self, on_commit):
        self.log_id = secrets.token_hex(8)
        self.last = 1
        self.committed = 1
        self.lease = 2**40
        self.first = 2
        self.marks = {}
        self.entries = []
        self.on_commit = on_commit
        self.bytes = 0
        self.ev = threading.Event()
        self.stop = False
        self.t = threading.Thread(target=self.run, daemon=True)
        self.t.start()

    @classmethod
    def open(cls, path, *, max_bytes, max_age, now, on_commit, vfs=None):
        return cls(on_commit)

    def run(self):
        while not self.stop:
            self.ev.wait()
            self.ev.clear()
            time.sleep(0.003)
            self.committed = self.last
            self.on_commit(self.committed)

    def append(
        self,
        *,
        origin,
        host_id,
        client_address,
        batch,
        epoch=0,
        seq=0,
        package="",
        plugin="",
        channels=None,
        crc=0,
    ):
        n = batch_count(batch)
        e = Entry(
            self.last + 1, n, origin, host_id, client_address, epoch, seq, package, plugin, channels, crc, batch
        )
        self.last += n
        self.entries.append(e)
        self.bytes += len(batch)
        if epoch:
            self.marks[origin, epoch] = seq + n - 1
        while self.bytes > 64 * 2**20:
            o = self.entries.pop(0)
            self.bytes -= len(o.batch)
            self.first = o.end + 1
        self.ev.set()
        return e

    def set_mark(self, o, e, s):
        self.marks[o, e] = s

    def read(self, after, max_bytes):
        import bisect

        gap = LogGap(after, self.first - 1, "retention") if 0 < after < self.first - 1 else None
        after = max(after, self.first - 1)
        i = bisect.bisect_right(self.entries, after, key=lambda e: e.end)
        out = []
        while i < len(self.entries) and max_bytes > 0:
            out.append(self.entries[i])
            max_bytes -= len(out[-1].batch)
            i += 1
        return Reading(out, out[-1].end if out else after, gap)

    read_disk = read

    def find(self, o, e, s):
        return None

    def replace_id(self):
        self.log_id = secrets.token_hex(8)

    def close(self):
        self.stop = True
        self.ev.set()
