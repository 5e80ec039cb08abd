"""A process with a log is killed again and again: what it said to be on disk is there."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from co2.protocol.wire.batch import split_batch
from co2.store.relay_log import RelayLog

KILLS = 20

WRITER = """
import sys, time, zlib
from pathlib import Path
from co2.protocol.wire.batch import make_batch
from co2.store.relay_log import RelayLog

def tell(position):
    # A commit of no rows, such as the first, of the lease, stands where the log begins.
    if position > start:
        sys.stdout.write(f"{position}\\n")
        sys.stdout.flush()

start = 2**62

clocks = {"now": time.monotonic, "wall": time.time}
log = RelayLog.open(Path(sys.argv[1]), max_bytes=2**30, max_age=86400, on_commit=tell, **clocks)
start = log.last
seq = log.marks.get(("ham", 7), 0) + 1
while True:
    batch = make_batch([seq.to_bytes(1, "big") if seq < 128 else b"\\xce" + seq.to_bytes(4, "big")])
    log.append(
        origin="ham", host_id="ham@127.0.0.1:1", client_address=("127.0.0.1", 1), batch=batch, epoch=7, seq=seq,
        package="p", plugin="x", channels=("",), crc=zlib.crc32(batch), count=1,
    )
    seq += 1
    if seq % 50 == 0:
        time.sleep(0.0005)
"""


def contents(path: Path) -> list[tuple[int, int]]:
    """Read the whole log as (position, number)."""
    log = RelayLog.open(
        path, max_bytes=2**30, max_age=86_400, now=time.monotonic, wall=time.time, on_commit=lambda position: None
    )
    found, after = [], 0
    try:
        while entries := (reading := log.read_disk(after, 2**20)).entries:
            assert reading.gap is None
            for entry in entries:
                (message,) = split_batch(entry.batch)
                number = message[0] if len(message) == 1 else int.from_bytes(message[1:], "big")
                assert number == entry.seq
                found.append((entry.position, number))
            after = reading.next
        assert log.marks.get(("ham", 7), 0) == (found[-1][1] if found else 0)
        assert all(position <= log.last for position, _ in found)
    finally:
        log.close()
    return found


def test_what_was_on_disk_is_there_after_each_kill(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    told = 1
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout
            first = writer.stdout.readline()
            time.sleep(random.uniform(0, 0.1))  # a kill at any moment is the point
            os.kill(writer.pid, signal.SIGKILL)
            lines = [first, *writer.stdout]
        told = max([told, *(int(line) for line in lines if line.endswith("\n"))])
        found = contents(path)
        assert [number for _, number in found] == list(range(1, len(found) + 1))
        positions = [position for position, _ in found]
        assert positions == sorted(set(positions))
        assert positions[-1] >= told
    assert len(found) > 100
