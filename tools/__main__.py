"""`python3 tools TASK`: the book's commands, the same on Linux, macOS and Windows.

This file is read by whatever Python is called, so it stays within what every Python can read (2.7 too). It
checks the version and hands over; the commands themselves are in tasks.py.
"""

import os
import sys

OLDEST = (3, 11)


def main():
    if sys.version_info[:2] < OLDEST:
        sys.stderr.write(
            "The book needs Python %d.%d or newer, and this is Python %d.%d (%s). Install a newer one, or "
            "name it if you have it: make PYTHON=python3.12 book, or python3.12 tools book.\n"
            % (OLDEST + tuple(sys.version_info[:2]) + (sys.executable,))
        )
        return 2
    # `python3 tools` puts the folder itself on the path; its parent belongs there.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here]
    sys.path.insert(0, os.path.dirname(here))
    sys.dont_write_bytecode = True
    from tools import tasks

    return tasks.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
