"""The studio in a real browser: every control, the keyboard alone, mistakes; nothing from elsewhere, no errors."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

import deltaprune as dp
from deltaprune.studio.app import own_app

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="There is no Chromium at /usr/bin/chromium"),
]
FOCUSED = "document.activeElement.dataset.example || document.activeElement.closest('[id^=dp-]')?.id"
WAIT = 30_000  # milliseconds for one step, on a busy machine
NOISE = 4  # pixels by which a page may be wider than the screen


@pytest.fixture(scope="module")
def looked_up() -> Iterator[list[str]]:
    """The hosts that this process has asked for, other than itself."""
    hosts: list[str] = []
    ask = socket.getaddrinfo

    def listed(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("127.0.0.1", "localhost", None):
            hosts.append(str(host))
        return ask(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", listed)
        yield hosts


@pytest.fixture(scope="module")
def address(looked_up: list[str]) -> Iterator[str]:
    """A server of its own in a thread, on a free port."""
    server = uvicorn.Server(uvicorn.Config(own_app(dp.load("bundled")), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


def warns(said: ConsoleMessage) -> bool:
    """A warning; Gradio's own, at the end of each upload, says nothing about the page."""
    return said.type == "warning" and said.text != "Method not implemented."


@pytest.fixture
def visit(browser: Browser, address: str, looked_up: list[str]) -> Iterator[Page]:
    """The page at 1280 pixels; in the end nothing went wrong in it and no request has left this machine."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(WAIT)
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" or warns(said) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    here = (address, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(here) else wrong.append(asked.url))
    page.on("response", lambda got: wrong.append(f"{got.status} {got.url}") if got.status >= 400 else None)
    page.goto(address)
    expect(page.locator("#dp-answers tbody tr")).to_have_count(3, timeout=WAIT)
    yield page
    page.wait_for_timeout(300)
    page.close()
    assert wrong == looked_up == []


def method_of(page: Page, name: str) -> str:
    return page.locator(f"#dp-answers tr:has(th b:text-is('{name}')) code").inner_text()


def shows_method(page: Page, name: str, text: str) -> None:
    expect(page.locator(f"#dp-answers tr:has(th b:text-is('{name}')) code")).to_have_text(text, timeout=WAIT)


def choose(page: Page, place: str, option: str) -> None:
    """An option of a dropdown, by typing."""
    box = page.locator(f"{place} input")
    box.click()
    box.fill(option)
    box.press("Enter")


def slide(page: Page, place: str, value: str) -> None:
    number = page.locator(f"{place} input[type=number]")
    number.fill(value)
    number.press("Enter")


def test_every_control(visit: Page) -> None:
    page = visit
    shows_method(page, "A", "dtp:keep=0.5")
    slide(page, "#dp-keep-A", "0.25")
    shows_method(page, "A", "dtp:keep=0.25")
    choose(page, "#dp-score-A", "random")
    shows_method(page, "A", "dtp:keep=0.25,score=random")
    page.locator("#dp-more-A textarea, #dp-more-A input").fill("late=none")
    page.locator("#dp-more-A textarea, #dp-more-A input").press("Enter")
    shows_method(page, "A", "dtp:keep=0.25,score=random,late=none")
    choose(page, "#dp-method-A", "vtw")
    shows_method(page, "A", "vtw")
    expect(page.locator("#dp-keep-A")).to_be_hidden()
    slide(page, "#dp-budget-B", "0.7")
    shows_method(page, "B", "freeze:budget=0.7")
    slide(page, "#dp-budget-B", "0.05")
    expect(page.locator("#dp-answers .failed")).to_contain_text("cannot be met by freezing")
    slide(page, "#dp-budget-B", "0.6")
    expect(page.locator("#dp-answers .failed")).to_have_count(0)

    page.get_by_label("By hand").check()
    slide(page, "#dp-layer", "10")
    expect(page.locator(".dp-where").first).to_have_text("By hand, after layer 10")
    page.locator("#dp-patches .dp-grid").click(position={"x": 200, "y": 200})
    expect(page.locator(".dp-legend")).to_contain_text("1 dropped")
    assert method_of(page, "By hand").startswith("chosen:drop=")
    expect(page.locator("#dp-command")).to_contain_text("chosen:drop=")
    page.locator("#dp-patches .dp-grid").click(position={"x": 200, "y": 200})
    expect(page.locator(".dp-legend")).to_contain_text("0 dropped")
    page.get_by_label("A", exact=True).check()
    expect(page.locator("#dp-command")).to_contain_text("vtw")
    choose(page, "#dp-method-A", "dtp")
    shows_method(page, "A", "dtp:keep=0.5")
    page.locator("#dp-start").click()
    expect(page.locator(".dp-legend")).to_contain_text("128 dropped")
    page.locator("#dp-back").click()
    expect(page.locator(".dp-legend")).to_contain_text("0 dropped")

    before = page.locator("#dp-curve").inner_html()
    choose(page, "#dp-heat-score", "readout")
    expect(page.locator(".dp-where").nth(1)).to_contain_text("readout")
    assert page.locator("#dp-curve").inner_html() != before
    page.locator("#dp-question textarea, #dp-question input").fill("How many red objects are there?")
    page.locator("#dp-ask").click()
    expect(page.locator("#dp-asked tbody tr")).to_have_count(2)
    expect(page.locator("#dp-asked tbody tr").first).to_contain_text("How many red objects are there?")
    assert "%" in page.locator("#dp-asked tbody tr").first.inner_text()  # what the prefix saved
    page.locator("[data-example='1']").click()
    expect(page.locator("#dp-question textarea, #dp-question input")).to_have_value("How many objects are there?")
    expect(page.locator("#dp-asked tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate("document.body.classList.contains('dark')")


def test_mistakes_are_one_sentence(visit: Page, tmp_path: Path) -> None:
    page = visit
    question = page.locator("#dp-question textarea, #dp-question input")
    question.fill("   ")
    question.press("Enter")
    expect(page.locator("#dp-notice")).to_contain_text("The question is empty")
    question.fill("How many red circles are there?")
    question.press("Enter")
    expect(page.locator("#dp-notice [role=alert]")).to_have_count(0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path("examples/triangles.png").read_bytes()[:900])
    page.locator("#dp-file input[type=file]").set_input_files(broken)
    expect(page.locator("#dp-notice [role=alert]")).to_contain_text("'broken.png' is damaged or cut short")
    assert "Traceback" not in page.content()
    page.locator("#dp-file button[aria-label*='emove'], #dp-file button[aria-label*='lear']").first.click()
    page.locator("#dp-file input[type=file]").set_input_files("examples/green_cross.png")
    expect(page.locator(".dp-note b").first).to_have_text("green_cross.png")
    expect(page.locator("#dp-notice [role=alert]")).to_have_count(0)


def test_the_keyboard_alone(visit: Page) -> None:
    """Tab reaches every control; the picture of patches is worked by arrow keys and space."""
    page, reached = visit, []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if reached[-1] == "dp-patches":
            break
    wanted = {"dp-file", "0", "1", "2", "dp-question", "dp-ask", "dp-method-A", "dp-keep-A", "dp-score-A", "dp-more-A"}
    wanted |= {"dp-method-B", "dp-budget-B", "dp-score-B", "dp-shown", "dp-layer", "dp-patches"}
    assert wanted <= set(reached)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", " "):
        page.keyboard.press(key)
    shows_method(page, "By hand", "chosen:drop=18")
    expect(page.locator("#dp-patches .dp-live")).to_have_text("Row 2, column 3: dropped")
    assert page.evaluate("document.activeElement.closest('#dp-patches') !== null")  # the cursor is still there
    page.keyboard.press("Enter")
    expect(page.locator("#dp-patches .dp-live")).to_have_text("Row 2, column 3: kept")
    page.locator("#dp-layer input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".dp-where").first).to_contain_text("after layer 4")
    page.locator("#dp-question textarea, #dp-question input").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("Is there a sign?")
    page.keyboard.press("Enter")
    expect(page.locator("#dp-asked tbody tr")).to_have_count(2)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(browser: Browser, address: str, width: int, scheme: str, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address)
    expect(page.locator("#dp-answers tbody tr")).to_have_count(3, timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= width + NOISE
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    shot = page.screenshot(full_page=True, path=tmp_path / f"{width}-{scheme}.png")
    assert len(shot) > 50_000
    unlabelled = page.evaluate(
        "[...document.querySelectorAll('input, textarea, button')].filter(e => e.offsetParent && "
        "!(e.labels?.length || e.getAttribute('aria-label') || e.innerText.trim() || e.title)).map(e => e.outerHTML)"
    )
    assert unlabelled == []
    page.close()
