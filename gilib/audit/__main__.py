"""``python -m gilib.audit TARGET ...`` is ``gilib audit TARGET ...``."""

import sys

from gilib.audit.command import main

if __name__ == "__main__":
    sys.exit(main(["audit", *sys.argv[1:]]))
