"""`python -m diffcheck`."""

import sys

from diffcheck.commands.cli import main

sys.exit(main())
