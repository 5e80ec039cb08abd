"""The number of files that a host may open."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

SCRIPT = """
import resource, sys
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from co2.server.open_files import allow_files
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
