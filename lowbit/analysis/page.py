"""One HTML page that needs nothing beside it: figures as inline SVG images, and the table of runs."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

_STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222}
img {width: 100%; height: auto}
table {border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto}
th, td {padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap}
th:nth-child(-n+2), td:nth-child(-n+2) {text-align: left}
pre {white-space: pre-wrap; color: #555; font: inherit}
"""


def page(title: str, figures: Mapping[str, tuple[str, Path | str]], table: pd.DataFrame) -> str:
    """The page as text.

    Args:
        title: of the page.
        figures: heading -> what it shows, and the SVG file of the figure or why there is none.
        table: shown at the end, under its column names.
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for heading, (description, drawn) in figures.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        if isinstance(drawn, Path):
            content = base64.b64encode(drawn.read_bytes()).decode()
            parts.append(f'<img alt="{html.escape(heading)}" src="data:image/svg+xml;base64,{content}">')
            parts.append(f"<pre>{html.escape(description)}</pre>")
        else:
            parts.append(f"<p>Not drawn: {html.escape(drawn)}</p>")
    rows = table.to_html(index=False, border=0, na_rep="", float_format=lambda value: f"{value:.4g}")
    parts += ["<h2>Runs</h2>", rows]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"
