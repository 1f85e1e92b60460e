"""How many labels of arrows lie over another arrow, a box or another label in the pictures of the lessons, at any step.

Goals: none in questions and tasks, next to none on benches, where things stay where they are; and letters of 20 pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests import pictures


def main() -> None:
    """A line for each sort of pictures."""
    sorts = {"benches": pictures.of_benches, "questions": pictures.of_questions, "tasks": pictures.of_tasks}
    free = [picture for seed in range(24) for picture in pictures.of_session(seed)]
    for sort, shown in {**{name: [*make()] for name, make in sorts.items()}, "free benches": free}.items():
        many, found = pictures.covering(shown)
        scales = [player.layout.scale for _, player in shown if player.layout is not None]
        small = sum(scale < 4 / 3 for scale in scales)
        print(
            f"{sort:12} {many:4} pictures, {len(found):3} covered; letters below 20 pixels in {small} of {len(scales)} presses"
        )
        if "-v" in sys.argv:
            for said, where in found.items():
                print(f"    {where}: {said}")


if __name__ == "__main__":
    main()
