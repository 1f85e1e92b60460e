"""What the notebooks need: prepared benches, questions and tasks; and drills, which never end."""

from .drills import drill
from .survey import survey

__all__ = ["drill", "survey"]
