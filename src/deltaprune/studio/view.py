"""Everything that the page shows of a session, as texts and HTML, by the name of the place where it is shown."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from deltaprune.studio import pictures, share, tables
from deltaprune.studio.choices import CONTROLS
from deltaprune.studio.curve import spread_curve
from deltaprune.studio.layers import DROPPED, KEPT, WORDS, WRITTEN
from deltaprune.studio.session import COMPARED, NO_GRID, Session
from deltaprune.studio.sight import EXAMPLES

View = dict[str, Any]


def everything(session: Session, loads: Mapping[str, str]) -> View:
    """All places; `loads` as in `share.command_line`."""
    view: View = {
        "notice": notice(session.notice),
        "question": session.question,
        "answers": tables.answers(session.rows(), session.shown),
        "asked": tables.asked(session.asked),
        "shown": session.shown,
        "about_picture": about_picture(session),
        "about_share": about_share(session),
    }
    given = (session.sight.name, session.question, session.text_of(session.shown), loads)
    view |= {"command": share.command_line(*given), "python": share.python_lines(*given)}
    for name in COMPARED:
        setting = session.settings[name]
        view[f"{name}:method"], view[f"{name}:more"] = setting.method, setting.more
        view |= {f"{name}:{control}": getattr(setting, control) for control in CONTROLS}
        view |= {f"{name}:{control}:visible": control in setting.controls for control in CONTROLS}
    return view | drawings(session)


def drawings(session: Session) -> View:
    """The places that follow the layer."""
    uri, size = session.sight.uri, session.sight.image.size
    states, grid = session.states
    heat, k = session.heat, session.layer
    row, whole = heat[max(k, 1) - 1], session.grid
    ends = pictures.heat_range(row) if np.isfinite(row).all() else None
    drawn, told = (grid, states) if grid is not None else ((1, 1), np.full(1, KEPT, dtype=np.uint8))
    return {
        "layer": k,
        "patches": {
            "svg": pictures.patches(uri, size, drawn, told),
            "rows": drawn[0],
            "columns": drawn[1],
            "states": told.tolist(),
            "words": list(WORDS) if grid is not None else ["the patches of this picture are not drawn"],
        },
        "counts": counts(session, states) + ("" if grid is not None else f'<p class="dp-note">{NO_GRID}</p>'),
        "heat": pictures.heat_map(uri, size, whole, row) if ends is not None and whole is not None else "",
        "about_heat": about_heat(session.score, max(k, 1), ends, whole is not None),
        "curve": curve(session, heat),
    }


def curve(session: Session, heat: np.ndarray) -> str:
    """The spread of the score, with the stages and the frozen layers of the shown setting."""
    result, stages, frozen = session.result, {}, []
    if result is not None:
        left = dict(zip(result.after, result.tokens[1:], strict=True))
        ends = {min(left), max(left)} if left else set()
        stages = {k: (f"{tokens} left after {k}" if k in ends else "") for k, tokens in left.items()}
        ways = result.states[1:]
        frozen = [k for k, row in enumerate(ways, start=1) if ((row >= WRITTEN) & (row < DROPPED)).any()]
    return spread_curve(heat.astype(np.float64).std(axis=1), stages, frozen, session.layer)


def counts(session: Session, states: np.ndarray) -> str:
    """How many patches are in each state at the layer shown: the legend."""
    where = "before the first layer" if session.layer == 0 else f"after layer {session.layer}"
    entries = "".join(
        f'<li><i class="state-{state}"></i>{(states == state).sum()} {escape(word)}</li>'
        for state, word in enumerate(WORDS)
        if state in (KEPT, DROPPED) or (states == state).any()
    )
    return f'<p class="dp-where"><b>{escape(session.shown)}</b>, {where}</p><ul class="dp-legend">{entries}</ul>'


def about_heat(score: str, layer: int, ends: tuple[float, float] | None, drawn: bool) -> str:
    """The heat map's legend; `ends` is None where the layer does not give the score."""
    where = f'<p class="dp-where"><b>{escape(score)}</b>, in layer {layer}, without pruning</p>'
    if ends is None:
        return f'{where}<p class="dp-note">No stage behind layer {layer} can read this score: move the slider.</p>'
    low, high = (f"{end:.3g}" for end in ends)
    if not drawn:
        return f'{where}<p class="dp-note">{low} to {high}; without a grid there is no map.</p>'
    return f'{where}<p class="dp-scale"><span>{low}</span><i></i><span>{high}</span></p>'


def about_picture(session: Session) -> str:
    """The picture's name and size."""
    sight = session.sight
    width, height = sight.image.size
    return f'<p class="dp-note"><b>{escape(sight.name)}</b>, {width} &times; {height} pixels</p>'


def about_share(session: Session) -> str:
    """An example is nowhere on the disk: it can be saved under the name that the lines have for it."""
    name = escape(session.sight.name)
    if session.sight.name not in {example.name for example in EXAMPLES}:
        return f'<p class="dp-note">The lines expect {name} where they are run.</p>'
    uri = pictures.data_uri(session.sight.image)
    save = f'<a download="{name}" href="{uri}">save it</a>'
    return f'<p class="dp-note">The lines expect {name} where they are run: {save}.</p>'


def notice(sentence: str) -> str:
    """A mistake, to be read at once; an empty place where there is none."""
    return f'<p role="alert" class="dp-alert">{escape(sentence)}</p>' if sentence else ""


def header(name: str, about: str, warning: str) -> str:
    """The page's head: which model it is, and what has to be known of it."""
    warned = f'<p class="dp-note">{escape(warning)}</p>' if warning else ""
    return f"<h1>deltaprune <span>studio</span></h1><p>Model <b>{escape(name)}</b>: {escape(about)}</p>{warned}"


def example_buttons() -> str:
    """The examples as buttons with small pictures."""
    buttons = "".join(
        f'<button type="button" data-example="{i}" aria-label="Example {i + 1}: {escape(example.question)}">'
        f'<img alt="" width="72" height="72" src="{pictures.data_uri(example.image)}"></button>'
        for i, example in enumerate(EXAMPLES)
    )
    return f'<div class="dp-examples" role="group" aria-label="Examples">{buttons}</div>'
