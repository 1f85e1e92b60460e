"""`python -m tests.fuzz`, which `make fuzz` runs."""

import sys

from .command import main

sys.exit(main())
