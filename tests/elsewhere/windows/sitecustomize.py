"""Python without what it does not have on Windows. In force wherever this folder is on PYTHONPATH.

For the commands that talk to a relay elsewhere; hosts do not run there. Names are taken away, nothing else: paths
and processes stay as they are on Linux, and so does what Python's own library needs here when it is imported
(``os.WNOHANG``, say).
"""

import os
import select
import signal
import socket
import sys
import time
import types

_NO_MODULES = "fcntl pwd grp resource termios tty pty syslog readline curses nis spwd crypt"

_GONE: dict[types.ModuleType, str] = {
    os: "getuid geteuid getgid getegid getgroups getpgid getpgrp getsid getresuid getresgid setuid seteuid "
    "setgid setegid setgroups setpgid setreuid setregid setresuid setresgid setsid initgroups fork forkpty "
    "openpty killpg register_at_fork posix_spawn posix_spawnp nice getpriority setpriority sched_* SCHED_* "
    "wait wait3 wait4 waitid chown lchown fchown chroot mkfifo mknod ttyname ctermid tcgetpgrp tcsetpgrp uname "
    "sysconf confstr pread preadv pwrite pwritev readv writev sendfile splice copy_file_range pipe2 fdatasync "
    "sync posix_fadvise posix_fallocate statvfs fstatvfs pathconf memfd_create eventfd pidfd_open getxattr "
    "setxattr listxattr removexattr unshare setns O_NOCTTY O_NONBLOCK O_NDELAY O_CLOEXEC O_SYNC O_DSYNC O_RSYNC "
    "O_DIRECT O_DIRECTORY O_NOFOLLOW O_NOATIME O_PATH O_TMPFILE O_ASYNC",
    select: "poll POLL* epoll EPOLL*",
    signal: "SIGHUP SIGQUIT SIGTRAP SIGBUS SIGKILL SIGUSR1 SIGUSR2 SIGPIPE SIGALRM SIGCHLD SIGCLD SIGCONT SIGSTOP "
    "SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPOLL SIGPWR SIGSYS "
    "SIGSTKFLT SIGRT* alarm setitimer getitimer ITIMER_* pause pthread_kill pthread_sigmask siginterrupt "
    "sigpending sigwait* sigtimedwait pidfd_send_signal",
    socket: "AF_UNIX AF_NETLINK AF_VSOCK AF_CAN AF_PACKET MSG_DONTWAIT MSG_NOSIGNAL MSG_MORE SO_REUSEPORT "
    "SO_PEERCRED SCM_RIGHTS CMSG_LEN CMSG_SPACE SOCK_NONBLOCK SOCK_CLOEXEC TCP_USER_TIMEOUT TCP_QUICKACK TCP_CORK "
    "TCP_INFO send_fds recv_fds",
    time: "tzset clock_gettime* clock_settime* clock_getres pthread_getcpuclockid CLOCK_*",
}


def _take_names_away() -> None:
    for name in _NO_MODULES.split():
        sys.modules[name] = None  # type: ignore[assignment]  # whoever imports it gets ModuleNotFoundError
    for module, names in _GONE.items():
        for pattern in names.split():
            for name in [*vars(module)]:
                if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                    delattr(module, name)


if sys.platform == "linux":
    _take_names_away()
