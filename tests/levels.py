"""What the search has found for each level: `python -m tests.levels > assets/levels.json` writes it anew."""

from __future__ import annotations

import json

from vfiosim.lessons.levels import entry
from vfiosim.lessons.levels_data import LEVELS

if __name__ == "__main__":
    print(json.dumps({level.name: entry(level) for level in LEVELS}, indent=1, ensure_ascii=False))
