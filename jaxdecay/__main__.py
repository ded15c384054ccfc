"""``python -m jaxdecay``."""

import sys

from jaxdecay.cli import main

if __name__ == "__main__":
    sys.exit(main())
