"""The page's layout. Its contents are computed in `session.py` and `view.py`, its events are in `events.py`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from deltaprune.studio import view
from deltaprune.studio.choices import CONTROLS
from deltaprune.studio.door import Door
from deltaprune.studio.session import COMPARED, SHOWN

ASSETS = Path(__file__).parent / "assets"
Places = dict[str, Any]  # a component by the name of its place


def lay_out(header: str, methods: Sequence[str], scores: Sequence[str], door: Door) -> Places:
    """Build the page in the open `gr.Blocks` and return its places.

    Args:
        header: HTML.
        methods, scores: the names to choose from.
        door: to the model.
    """
    places: Places = {}
    with gr.Row(elem_classes="dp-head"):
        gr.HTML(header, elem_classes="dp-title")
        places["dark"] = gr.Button("Dark or light", size="sm", scale=0, min_width=120)
    with gr.Row(elem_classes="dp-page"):
        with gr.Column(scale=3, min_width=300, elem_classes="dp-side"):
            places |= _picture()
            for name in COMPARED:
                places |= _setting(name, methods, scores)
        with gr.Column(scale=8, min_width=340):
            with gr.Column(elem_classes="dp-card dp-second"):
                gr.HTML("<h2>Answers</h2>")
                places["answers"] = gr.HTML()
            places |= _layers(door.shape.n_layers)
            with gr.Row(equal_height=False):
                places |= _spread(scores, door.score)
                places |= _asked(door.asking)
            places |= _share()
    return places


def _picture() -> Places:
    with gr.Column(elem_classes="dp-card dp-first"):
        gr.HTML("<h2>Picture and question</h2>")
        file = gr.File(label="Picture file", height=130, elem_id="dp-file")
        examples = gr.HTML(view.example_buttons(), js_on_load=(ASSETS / "examples.js").read_text(encoding="utf-8"))
        about_picture = gr.HTML()
        question = gr.Textbox(label="Question", lines=1, max_lines=3, elem_id="dp-question")
        ask = gr.Button("Ask", variant="primary", elem_id="dp-ask")
        notice = gr.HTML(elem_id="dp-notice")
    return {
        "file": file,
        "examples": examples,
        "about_picture": about_picture,
        "question": question,
        "ask": ask,
        "notice": notice,
    }


def _setting(name: str, methods: Sequence[str], scores: Sequence[str]) -> Places:
    with gr.Column(elem_classes="dp-card"):
        gr.HTML(f"<h2>Setting {name}</h2>")
        method = gr.Dropdown(list(methods), label=f"Method {name}", elem_id=f"dp-method-{name}")
        plain: dict[str, Any] = {"step": 0.01, "buttons": []}
        about = "Share of the prefill's MACs"
        budget = gr.Slider(0.05, 1, label=f"Budget {name}", info=about, elem_id=f"dp-budget-{name}", **plain)
        about = "Share of the visual tokens"
        keep = gr.Slider(0, 1, label=f"Keep {name}", info=about, elem_id=f"dp-keep-{name}", **plain)
        score = gr.Dropdown(list(scores), label=f"Score {name}", info="What ranks them", elem_id=f"dp-score-{name}")
        more = gr.Textbox(
            label=f"Further fields {name}", placeholder="early=3,late=none", max_lines=1, elem_id=f"dp-more-{name}"
        )
    made: Mapping[str, Any] = {"method": method, "budget": budget, "keep": keep, "score": score, "more": more}
    return {f"{name}:{control}": component for control, component in made.items()}


def _layers(n_layers: int) -> Places:
    with gr.Column(elem_classes="dp-card"):
        gr.HTML("<h2>Layer by layer</h2>")
        with gr.Row(equal_height=True):
            shown = gr.Radio(list(SHOWN), label="Setting shown", elem_id="dp-shown", scale=1, min_width=260)
            whole: dict[str, Any] = {"step": 1, "buttons": [], "scale": 2, "min_width": 260}
            layer = gr.Slider(0, n_layers, label="After layer", elem_id="dp-layer", **whole)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                patches = gr.HTML(
                    None,
                    html_template=(ASSETS / "patches.html").read_text(encoding="utf-8"),
                    js_on_load=(ASSETS / "patches.js").read_text(encoding="utf-8"),
                    elem_id="dp-patches",
                )
                counts = gr.HTML()
            with gr.Column(min_width=280):
                heat = gr.HTML(elem_id="dp-heat", elem_classes="dp-drawing")
                about_heat = gr.HTML()
        with gr.Row():
            start = gr.Button("Edit the shown choice by hand", size="sm", elem_id="dp-start", min_width=200)
            back = gr.Button("Bring all patches back", size="sm", elem_id="dp-back", min_width=200)
    return {
        "shown": shown,
        "layer": layer,
        "patches": patches,
        "counts": counts,
        "heat": heat,
        "about_heat": about_heat,
        "start": start,
        "back": back,
    }


def _spread(scores: Sequence[str], first: str) -> Places:
    with gr.Column(elem_classes="dp-card", min_width=340):
        gr.HTML("<h2>Spread of the score</h2>")
        score = gr.Dropdown(
            list(scores), label="Score of the heat map and of this curve", value=first, elem_id="dp-heat-score"
        )
        curve = gr.HTML(elem_id="dp-curve", elem_classes="dp-drawing")
    return {"score": score, "curve": curve}


def _asked(how: str) -> Places:
    with gr.Column(elem_classes="dp-card", min_width=340):
        gr.HTML("<h2>Questions about this picture</h2>")
        gr.HTML(f'<p class="dp-note">{how}</p>')
        return {"asked": gr.HTML()}


def _share() -> Places:
    with gr.Column(elem_classes="dp-card"):
        gr.HTML("<h2>Share the shown setting</h2>")
        about_share = gr.HTML()
        look: dict[str, Any] = {"interactive": False, "lines": 1, "wrap_lines": True, "show_line_numbers": False}
        look["buttons"] = ["copy"]
        command = gr.Code(label="Command line", language="shell", elem_id="dp-command", **look)
        python = gr.Code(label="Python", language="python", elem_id="dp-python", **look)
        return {"about_share": about_share, "command": command, "python": python}


def updates(places: Places, shown: view.View) -> dict[Any, Any]:
    """What each component is given to show a view, or a part of one."""
    given = {places[name]: value for name, value in shown.items() if name in places}
    for name in COMPARED:
        for control in CONTROLS:
            if f"{name}:{control}" in shown:
                visible, value = shown[f"{name}:{control}:visible"], shown[f"{name}:{control}"]
                given[places[f"{name}:{control}"]] = gr.update(value=value, visible=visible)
    return given
