"""A hook of mkdocs: where a page says `<!-- NAME.ipynb -->`, the cells of that notebook are put, outputs included."""

import json
import re
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- (\w+\.ipynb) -->")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page's text with its notebook's cells in it."""
    folder = Path(page.file.abs_src_path).parent
    return MARK.sub(lambda found: as_markdown(folder / found[1]), markdown)


def as_markdown(notebook: Path) -> str:
    """Texts as they are, code and printed text in fences, pictures inside the page."""
    parts: list[str] = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [_fence("python", source), *map(_shown, cell["outputs"])]
    return "\n\n".join(parts)


def _shown(output: dict[str, Any]) -> str:
    """A picture if there is one, else the text."""
    data = output.get("data", {})
    if "image/png" in data:
        png = "".join(data["image/png"]).replace("\n", "")
        return f'<p><img alt="Output of the cell above" src="data:image/png;base64,{png}"></p>'
    return _fence("text", "".join(output.get("text") or data["text/plain"]))


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"
