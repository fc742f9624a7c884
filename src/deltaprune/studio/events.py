"""What happens when: each event is one step of the session, then the page shows what there is now."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from deltaprune.studio import view
from deltaprune.studio.choices import CONTROLS
from deltaprune.studio.page import Places, updates
from deltaprune.studio.session import COMPARED, Session

SWITCH = "() => { document.body.classList.toggle('dark'); }"


def wire(page: gr.Blocks, places: Places, model: tuple[Any, Any], loads: Mapping[str, str]) -> None:
    """Connect every control; one step runs at a time, so that what is timed is not disturbed."""
    state = gr.State(None)
    every = [places[name] for name in view_names(places)]
    drawn = [places[name] for name in DRAWN]
    run: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}
    run["api_visibility"] = "private"

    def opened() -> dict[Any, Any]:
        session = Session(*model)
        return {state: session, **updates(places, view.everything(session, loads))}

    def step(do: Callable[..., None], session: Session | None, *values: Any) -> dict[Any, Any]:
        session = session or Session(*model)
        do(session, *values)
        return {state: session, **updates(places, view.everything(session, loads))}

    def draw(session: Session | None, layer: int) -> dict[Any, Any]:
        session = session or Session(*model)
        session.look(layer=layer)
        return updates(places, view.drawings(session) | {"notice": view.notice(session.notice)})

    def on(event: Callable[..., Any], do: Callable[..., None], *given: Any) -> None:
        event(partial(step, do), [state, *given], [state, *every], trigger_mode="always_last", **run)

    def on_html(event: Callable[..., Any], do: Callable[..., None]) -> None:
        def told(session: Session | None, data: gr.EventData) -> dict[Any, Any]:
            return step(do, session, data)

        event(told, [state], [state, *every], trigger_mode="multiple", **run)

    page.load(opened, None, [state, *every], **run)
    on(places["file"].change, Session.open, places["file"])
    on_html(places["examples"].example, lambda session, data: session.open_example(int(data.number)))
    on(places["question"].submit, Session.ask, places["question"])
    on(places["ask"].click, Session.ask, places["question"])
    for name in COMPARED:
        on(places[f"{name}:method"].input, partial(choose, name), places[f"{name}:method"])
        for control in (*CONTROLS, "more"):
            place = places[f"{name}:{control}"]
            on(place.submit if control == "more" else place.input, partial(change, name, control), place)
    on(places["shown"].input, lambda session, shown: session.look(shown=shown), places["shown"])
    on(places["score"].input, lambda session, score: session.look(score=score), places["score"])
    places["layer"].input(draw, [state, places["layer"]], drawn, trigger_mode="always_last", **run)
    on_html(places["patches"].patch, lambda session, data: session.toggle(float(data.x), float(data.y)))
    on(places["start"].click, Session.start_by_hand)
    on(places["back"].click, Session.bring_back)
    places["dark"].click(None, None, None, js=SWITCH, api_visibility="private")


DRAWN = ("layer", "patches", "counts", "heat", "about_heat", "curve", "notice")


def view_names(places: Places) -> list[str]:
    """The places that a view fills: all but those that are only clicked on."""
    return [name for name in places if name not in ("dark", "file", "examples", "ask", "start", "back", "score")]


def choose(name: str, session: Session, method: str) -> None:
    """Another method for A or B."""
    session.choose(name, method)


def change(name: str, control: str, session: Session, value: Any) -> None:
    """Another value for one of A's or B's controls."""
    session.change(name, **{control: value})
