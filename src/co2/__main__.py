"""``python -m co2`` is the command ``co2``."""

import sys

from co2.cli import main

if __name__ == "__main__":
    sys.exit(main())
