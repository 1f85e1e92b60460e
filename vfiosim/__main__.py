"""`python -m vfiosim`."""

import sys

from .cli import main
from .ctrl_c import loaded

loaded()
sys.exit(main(sys.argv[1:]))
