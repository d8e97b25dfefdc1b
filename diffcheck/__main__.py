"""`python -m diffcheck`."""

import sys

from diffcheck.cli import main

sys.exit(main())
