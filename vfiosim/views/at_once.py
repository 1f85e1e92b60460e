"""The cell that is running, for what shows itself at once and not only as the last thing in a cell."""

import sys


def running_cell() -> int:
    """The number of the cell that is running, where cells show HTML; 0 elsewhere."""
    if "IPython" not in sys.modules:
        return 0
    from IPython import get_ipython

    shell = get_ipython()
    return shell.execution_count if shell and "text/html" in shell.display_formatter.active_types else 0
