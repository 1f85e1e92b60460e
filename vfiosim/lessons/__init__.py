"""What the notebooks need: prepared benches, questions and tasks; and drills, which never end."""

from typing import TYPE_CHECKING

from ..lazily import lazily
from .survey import survey

if TYPE_CHECKING:
    from .drills.drill import drill

__all__ = ["drill", "survey"]

__getattr__ = lazily(__name__, drills=("drill",))  # they come with all puzzles
