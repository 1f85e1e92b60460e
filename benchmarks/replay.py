"""How fast are the recordings replayed? The simulator of a kernel is only of use as an oracle if it answers thousands of calls.

Goal: at least 3,000 recorded calls a second on one core, with the comparison, a machine for each scenario and its ending.
"""

from __future__ import annotations

import time
from pathlib import Path

from vfiosim.conformance import check, load

RECORDS = Path(__file__).resolve().parent.parent / "assets" / "records"


def main() -> None:
    """Print the table."""
    steps, seconds = 0, 0.0
    for path in sorted(RECORDS.glob("*.json.gz")):
        recording = load(path)
        start = time.process_time()
        tally = check(recording).tally
        took = time.process_time() - start
        steps, seconds = steps + tally.steps, seconds + took
        print(f"{recording.name:16} {tally.steps:6,} calls {took:6.2f} s {tally.steps / took:8,.0f} calls a second")
    print(
        f"{'all of them':16} {steps:6,} calls {seconds:6.2f} s {steps / seconds:8,.0f} calls a second (at least 3,000)"
    )


if __name__ == "__main__":
    main()
