"""``co2``, with its relay's log on a disk whose syncs fail from SIGUSR1 on."""

import functools
import random
import signal

from co2.cli import main
from co2.store.relay_log import RelayLog
from tests.store.power import Disk

disk = Disk("failing", random.Random(0))
RelayLog.open = staticmethod(functools.partial(RelayLog.open, vfs=disk.vfs_name))  # type: ignore[method-assign]
signal.signal(signal.SIGUSR1, lambda number, frame: setattr(disk, "sync_fails", True))
raise SystemExit(main())
