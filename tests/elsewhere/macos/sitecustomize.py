"""Python as it is on macOS, as far as that can be had on Linux. In force wherever this folder is on PYTHONPATH.

Names that are not there are taken away, and what is there but means something else gets that meaning. It is that
which breaks programs: no name is missing where ``send`` with MSG_DONTWAIT blocks. Not here: kqueue, FSEvents, the
scheduler, what F_FULLFSYNC costs. Whoever needs those needs a Mac.
"""

import errno
import fcntl
import importlib.abc
import importlib.util
import os
import resource
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import types
from typing import Any

PLATFORM = "darwin"
LONGEST_DATAGRAM = 9216
"""Bytes; net.inet.udp.maxdgram, which is what a new socket's SO_SNDBUF has."""
F_FULLFSYNC = 51

MOST_FILES = 10_240
"""kern.maxfilesperproc of old; more are refused whatever the hard limit says."""

_GONE: dict[types.ModuleType, str] = {
    os: "memfd_create pidfd_open eventfd splice copy_file_range posix_fadvise posix_fallocate fdatasync pipe2 "
    "getrandom setresuid getresuid unshare setns sched_* SCHED_* MFD_* EFD_* CLONE_* P_PIDFD "
    "O_DIRECT O_TMPFILE O_PATH getxattr setxattr listxattr removexattr",
    select: "epoll EPOLL*",
    selectors: "EpollSelector",
    socket: "TCP_USER_TIMEOUT TCP_QUICKACK TCP_CORK TCP_INFO SO_PEERCRED SO_BINDTODEVICE SO_MARK SO_PRIORITY "
    "SOCK_NONBLOCK SOCK_CLOEXEC MSG_NOSIGNAL MSG_MORE AF_NETLINK AF_VSOCK AF_CAN",
    signal: "SIGPWR SIGSTKFLT SIGPOLL SIGRTMIN SIGRTMAX sigtimedwait sigwaitinfo pidfd_send_signal",
    time: "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid",
    resource: "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RUSAGE_THREAD",
    fcntl: "F_SETPIPE_SZ F_GETPIPE_SZ F_OFD_* F_ADD_SEALS F_SEAL_* F_NOTIFY",
}


def _take_names_away() -> None:
    for module, names in _GONE.items():
        for pattern in names.split():
            for name in [*vars(module)]:
                if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                    delattr(module, name)
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc,assignment]  # in kqueue's place


def _change_sockets() -> None:
    send, sendto, bind = socket.socket.send, socket.socket.sendto, socket.socket.bind
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        untouched = probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    def send_blocks(self: socket.socket, data: Any, flags: int = 0, /) -> int:
        # sosendcheck() of XNU looks at the socket, never at this flag.
        return send(self, data, flags & ~socket.MSG_DONTWAIT)

    def sendto_short(self: socket.socket, data: Any, *more: Any) -> int:
        is_default = self.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == untouched
        if self.type == socket.SOCK_DGRAM and is_default and len(data) > LONGEST_DATAGRAM:
            raise OSError(errno.EMSGSIZE, "Message too long")
        return sendto(self, data, *more)

    def bind_to_one(self: socket.socket, address: Any, /) -> None:
        ip = str(address[0]) if self.family == socket.AF_INET else ""
        if ip.startswith("127.") and ip != "127.0.0.1":  # the others are not configured there
            raise OSError(errno.EADDRNOTAVAIL, "Can't assign requested address")
        bind(self, address)

    for name, changed in (("send", send_blocks), ("sendto", sendto_short), ("bind", bind_to_one)):
        setattr(socket.socket, name, changed)


def _change_processes() -> None:
    setrlimit, killpg = resource.setrlimit, os.killpg

    def setrlimit_refused(kind: int, limits: tuple[int, int], /) -> None:
        if kind == resource.RLIMIT_AS or (kind == resource.RLIMIT_NOFILE and limits[0] > MOST_FILES):
            raise ValueError("current limit exceeds maximum limit")
        setrlimit(kind, limits)

    def killpg_refused(group: int, number: int, /) -> None:
        try:
            killpg(group, number)
        except ProcessLookupError:  # a group of which only zombies are left is refused, not missing
            raise PermissionError(errno.EPERM, "Operation not permitted") from None

    resource.setrlimit = setrlimit_refused
    os.killpg = killpg_refused
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if "PYTHON_FILES_AS_ON_MACOS" not in os.environ:  # once: who has raised it keeps that, as its children do
        os.environ["PYTHON_FILES_AS_ON_MACOS"] = "256"
        setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))


def _hide_proc() -> None:
    """Have no /proc; but for psutil, which is built for Linux here."""

    def refuse(path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.fsdecode(path)
        if text != "/proc" and not text.startswith("/proc/"):
            return
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None:
            if str(frame.f_globals.get("__name__")).startswith("psutil"):
                return
            frame = frame.f_back
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir"):
            refuse(arguments[0])

    def refusing(call: Any) -> Any:
        def asked(path: Any, *more: Any, **named: Any) -> Any:
            refuse(path)
            return call(path, *more, **named)

        return asked

    for name in ("stat", "lstat", "readlink"):
        setattr(os, name, refusing(getattr(os, name)))
    sys.addaudithook(hook)


def _add_full_fsync() -> None:
    ask = fcntl.fcntl

    def asked(descriptor: Any, what: int, *more: Any) -> Any:
        return os.fsync(descriptor) or 0 if what == F_FULLFSYNC else ask(descriptor, what, *more)

    fcntl.F_FULLFSYNC, fcntl.fcntl = F_FULLFSYNC, asked  # type: ignore[attr-defined,assignment]


class _BuiltForLinux(importlib.abc.MetaPathFinder):
    """Import what looks at the platform while it is imported, and is built for Linux here."""

    names = ("psutil", "uvloop", "isal", "apsw")

    def __init__(self) -> None:
        self._is_busy = False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.names or self._is_busy:
            return None
        self._is_busy = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_busy = False
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            sys.platform = "linux"
            try:
                run(module)
            finally:
                sys.platform = PLATFORM

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _prepare_library() -> None:
    """See to what Python's own library would look for on a Mac."""
    sysconfig.get_config_vars()
    proxies = types.ModuleType("_scproxy")
    proxies._get_proxies = proxies._get_proxy_settings = dict  # type: ignore[attr-defined]
    sys.modules["_scproxy"] = proxies
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]
    shutil._copyxattr = lambda *_, **__: None  # type: ignore[attr-defined]
    subprocess._USE_VFORK = False  # type: ignore[attr-defined]
    if sys.version_info >= (3, 13):
        os.process_cpu_count = os.cpu_count  # on Linux it asks sched_getaffinity, in every pool of threads


if sys.platform == "linux":
    _prepare_library()
    _take_names_away()
    _change_sockets()
    _change_processes()
    _hide_proc()
    _add_full_fsync()
    sys.meta_path.insert(0, _BuiltForLinux())
    sys.platform = PLATFORM
