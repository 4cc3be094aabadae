"""``python -m hkd`` runs the ``hkd`` command."""

import sys

from hkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
