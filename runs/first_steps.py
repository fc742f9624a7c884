"""The notebook with fresh outputs: python runs/first_steps.py writes docs/notebooks/first_steps.ipynb again."""

from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "first_steps.ipynb"
MOST = 400  # pixels


def executed(file: Path = NOTEBOOK) -> NotebookNode:
    """The notebook, run from its first cell to its last in a kernel of its own; the file is left as it is.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(file, as_version=4)
    local = Config(AsyncKernelManager={"transport": "ipc"})  # no network, not even this machine's own
    NotebookClient(notebook, config=local, kernel_name="python3", timeout=300, record_timing=False).execute()
    notebook.metadata["language_info"] = {"name": "python"}  # not which Python it was
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_small(each) for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


def _small(output: NotebookNode) -> NotebookNode:
    """Pictures at most 400 pixels wide, in 64 colours, as PNG alone."""
    data = output.get("data", {})
    data.pop("image/jpeg", None)
    if "image/png" in data:
        file = BytesIO()
        picture = Image.open(BytesIO(b64decode(data["image/png"]))).convert("RGB")
        if picture.width > MOST:
            picture = picture.resize((MOST, round(MOST * picture.height / picture.width)), Image.Resampling.LANCZOS)
        picture.quantize(64, kmeans=2, dither=Image.Dither.NONE).save(file, format="PNG", optimize=True)
        data["image/png"] = b64encode(file.getvalue()).decode()
    return output


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
