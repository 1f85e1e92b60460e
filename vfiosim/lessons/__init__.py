"""What the notebooks need: prepared benches, questions and tasks; and drills, which never end."""

from .drills import drill

__all__ = ["drill"]
