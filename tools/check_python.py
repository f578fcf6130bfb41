"""Say with the exit status whether this Python can run the book.

Kept free of new syntax, so that an old Python can say no.
"""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("This book needs Python 3.11, 3.12 or 3.13; %s is %s." % (sys.executable, sys.version.split()[0]))
try:
    import ensurepip  # noqa: F401
    import venv  # noqa: F401
except ImportError:
    sys.exit("%s has no venv module; on Debian and Ubuntu: apt-get install python3-venv." % sys.executable)
