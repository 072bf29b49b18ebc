"""``python -m lossutils``: the command line; :mod:`lossutils.cli` does the work."""

import sys

from lossutils.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
