"""``python -m tests.simulation``: run seeds in several processes, print what was done."""

import sys

from tests.simulation.runner import main

if __name__ == "__main__":
    sys.exit(main())
