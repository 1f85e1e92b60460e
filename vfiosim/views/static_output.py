"""What is left of a widget where it does not live: in a saved notebook that is opened again, in an exported page.

JupyterLab prefers the widget of an output to its HTML, even if the kernel of the widget is gone: then it says that there is no
such model. So the two are outputs of their own, and the styles of the second show one of them.
"""

from __future__ import annotations

from typing import Any

from IPython.display import display

from ..assets import style_sheet

VIEW = "application/vnd.jupyter.widget-view+json"


def display_with_static(bundle: dict[str, Any]) -> None:
    """Display what is in this bundle: first the widget, then all the rest."""
    rest = {kind: data for kind, data in bundle.items() if kind != VIEW}
    if VIEW in bundle:
        # The empty page is for those who know no widgets.
        display({VIEW: bundle[VIEW], "text/html": ""}, raw=True)  # type: ignore[no-untyped-call]
    styles = style_sheet("kept.css")
    rest["text/html"] = f'<div class="vfiosim-kept"><style>{styles}</style>{rest["text/html"]}</div>'
    display(rest, raw=True)  # type: ignore[no-untyped-call]
