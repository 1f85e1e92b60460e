"""For teachers: a page made by nbconvert with the answers of its lesson at the end."""

from __future__ import annotations

from typing import Any

from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_markdown_cell

from .answers import of_lesson
from .lessons.lesson import lessons


class Answers(Preprocessor):
    """For nbconvert: `--HTMLExporter.preprocessors=vfiosim.appendix.Answers`. A notebook without questions stays as it is."""

    def preprocess(self, notebook: Any, resources: Any) -> tuple[Any, Any]:
        """The notebook with the answers of the lesson whose number begins its name."""
        number = resources["metadata"]["name"].partition("_")[0]
        for lesson in (lesson for lesson in lessons() if lesson.number == number):
            notebook.cells.append(new_markdown_cell("\n".join(of_lesson(lesson))))
        return notebook, resources
