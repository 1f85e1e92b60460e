"""Ctrl-C while `python -m vfiosim` is being loaded: it ends as any program does, without a traceback of an import.

Python imports the package before it runs its `__main__`, so nobody can catch anything there. Until then the signal has the
meaning that it has for a program in C: the process ends, and a shell calls that status 130.
"""

import signal
import sys

_loading = (
    sys.argv[:1] == ["-m"]  # as long as Python looks for what it is to run
    and ("-m", "vfiosim") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _loading:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def loaded() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again: there is somebody to catch it."""
    if _loading:
        signal.signal(signal.SIGINT, signal.default_int_handler)
