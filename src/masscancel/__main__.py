"""``python -m masscancel`` is the ``masscancel`` command."""

import sys

from masscancel.cli import main

if __name__ == "__main__":
    sys.exit(main())
