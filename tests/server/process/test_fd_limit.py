"""The number of files that a host may open."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

AS_ON_MACOS = """
import resource
set_limit = resource.setrlimit
def setrlimit(kind, limits):
    if limits[0] > 10240:
        raise ValueError("it promises more than its kernel gives")
    set_limit(kind, (limits[0], 10240))
resource.setrlimit = setrlimit
resource.getrlimit = lambda kind: (256, resource.RLIM_INFINITY)
from co2.server.process.fd_limit import allow_files
print([allow_files(wanted) for wanted in (100, 4352, 12000)])
"""

SCRIPT = """
import resource, sys
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from co2.server.process.fd_limit import allow_files
print(allow_files(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "told"),
    [
        (100, 400, 300, "300 300 400"),  # as many as are needed
        (100, 400, 500, "400 400 400"),  # as many as there may be
        (300, 400, 200, "300 300 400"),  # never fewer
    ],
)
def test_a_process_allows_itself_what_it_needs(soft: int, hard: int, wanted: int, told: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(wanted)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == told


def test_macos_gives_a_process_as_many_as_its_kernel_has_room_for() -> None:
    """It promises any number, and refuses more than 10,240 at once: 256 was what it stayed at."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 10_240:
        pytest.skip("this machine allows fewer files")
    command = [sys.executable, "-c", AS_ON_MACOS]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[256, 4352, 10240]"
