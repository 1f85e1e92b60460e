"""Drills: problems without end. The seed chooses the problem, the simulator the answer.

drill("errno", seed=7)            # in a notebook: a question with buttons, and one for the next problem
d = drill("refs"); print(d.ask()); print(d.answer("3")); d.next()
"""

from .drill import KINDS, Drill, drill

__all__ = ["KINDS", "Drill", "drill"]
