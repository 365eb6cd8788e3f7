"""The built site in a browser, as readers see it: from disk and by a server, wide and narrow, light and dark.

    make docs test-site

It takes Chromium: $CHROMIUM, or one on the path, or the one that Playwright fetches.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "site"
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if path.name != "404.html")
ORIGINS = ["disk", "server"]

PALETTES = {"light": "default", "dark": "slate"}
WIDTHS = {"desktop": (1440, 900), "phone": (390, 844)}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FAULTS = """() => {
    const name = (x) => x.textContent.trim().slice(0, 60)
    const faults = []
    const width = document.documentElement.scrollWidth
    if (width > innerWidth) faults.push(`the page is ${width} px wide, of ${innerWidth}`)
    for (const code of document.querySelectorAll("pre > code"))
        if (code.scrollWidth > code.clientWidth + 1) faults.push(`cut: ${name(code)}`)
    for (const picture of document.querySelectorAll("img"))
        if (!picture.complete || !picture.naturalWidth) faults.push(`no picture: ${picture.src}`)
    return faults
}"""

LEADS = {
    "GPU": r"install\.html",
    "TPU": r"install\.html",
    "learning rate": r"cookbook/learning_rate\.html",
    "weight decay": r"(choosing|cookbook/no_decay)\.html",
    "EMA": r"cookbook/\w+\.html",
    "checkpoint": r"cookbook/checkpoint\.html",
    "mixed precision": r"(cookbook/loss_scaling|mixed_precision)\.html",
    "adamw": r"api/optimizers\.html",
    "clip_by_global_norm": r"api/transforms\.html",
}
"""What people type, and the page that the search shows first."""


class Quiet(SimpleHTTPRequestHandler):
    """A server without a log."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    own = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        try:
            # The pages are our own, and root has no sandbox.
            browser = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except Error as error:
            pytest.exit(
                f"No browser: {error}\n\nGet one by `apt-get install chromium`, or by "
                "`.venv/bin/python -m playwright install chromium`; or say where one is: CHROMIUM=/path",
                returncode=1,
            )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def origins() -> Iterator[dict[str, str]]:
    """By name, where the site begins."""
    assert PAGES, "there is no site: make docs"
    with ThreadingHTTPServer(("localhost", 0), partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"disk": SITE.as_uri(), "server": f"http://localhost:{server.server_port}"}
        server.shutdown()


@pytest.fixture(scope="session", params=["light"])
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """What a reader has set up, who likes light or dark pages."""
    width, height = WIDTHS["desktop"]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=request.param)
    yield context
    context.close()


@contextmanager
def opened(context: BrowserContext, url: str) -> Iterator[tuple[Page, list[str]]]:
    """A page, and what goes wrong on it."""
    page, faults = context.new_page(), list[str]()
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"not loaded: {request.url}"))
    page.goto(url)
    yield page, faults
    page.close()


@pytest.mark.parametrize("context", PALETTES, indirect=True)
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(
    context: BrowserContext, origins: dict[str, str], origin: str, name: str, request: pytest.FixtureRequest
) -> None:
    with opened(context, f"{origins[origin]}/{name}") as (page, faults):
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        palette = page.get_attribute("body", "data-md-color-scheme")
        assert palette == PALETTES[request.node.callspec.params["context"]]
        for size, (width, height) in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": height})
            faults += [f"{size}: {fault}" for fault in page.evaluate(FAULTS)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("words", LEADS)
@pytest.mark.parametrize("origin", ORIGINS)
def test_the_search_shows_first(
    context: BrowserContext, origins: dict[str, str], origin: str, words: str
) -> None:
    with opened(context, f"{origins[origin]}/index.html") as (page, faults):
        page.click(".md-search__input")
        page.wait_for_function(
            "!/Initializing/.test(document.querySelector('.md-search-result__meta').textContent)"
        )
        # Each key that is released is a query.
        page.fill(".md-search__input", words[:-1])
        page.keyboard.type(words[-1])
        first = page.locator(".md-search-result__item > a").first.get_attribute("href")
    assert not faults
    assert first and re.search(f"/{LEADS[words]}", first)


def test_what_is_copied_of_a_session_was_typed(context: BrowserContext, origins: dict[str, str]) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    with opened(context, f"{origins['server']}/index.html") as (page, _):
        page.click(".md-content [data-md-type=copy], .md-content .md-clipboard")
        page.wait_for_selector(".md-dialog--active")
        copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("import gradtx") and "\n    " in copied
    assert ">>>" not in copied and "..." not in copied and "True" not in copied
    compile(copied, "index.md", "exec")


def test_a_table_is_sorted_by_a_click(context: BrowserContext, origins: dict[str, str]) -> None:
    with opened(context, f"{origins['disk']}/recipes.html") as (page, _):
        page.locator("th", has_text="text:").filter(has_text="loss").click()
        cells = page.locator("table").first.locator("td:nth-child(6)").all_inner_texts()
    losses = [float(cell.split()[0]) for cell in cells]
    assert len(losses) > 50 and losses == sorted(losses)


def test_the_first_page_leads_to_all() -> None:
    html = (SITE / "index.html").read_text()
    body = html[html.index("<article") : html.index("</article")]
    missing = [page for page in PAGES if page != "index.html" and f'"{page}' not in body]
    assert [page for page in missing if not re.match("cookbook/(?!index)", page)] == []


def test_functions_are_shown_and_not_the_files_of_their_names() -> None:
    """`gradtx.contrib.galore` is a function, in a file of that name."""
    shown = "".join(page.read_text() for page in SITE.glob("api/*.html"))
    anchors = set(re.findall(r'id="(gradtx\.[\w.]+)"', shown))
    for name in ("contrib.apollo", "contrib.fira", "contrib.galore", "formats.floating", "sharding.zero"):
        assert f"gradtx.{name}" in anchors
        assert not [anchor for anchor in anchors if anchor.startswith(f"gradtx.{name}.")], name


def test_names_and_papers_in_docstrings_are_links() -> None:
    for page in SITE.glob("api/*.html"):
        text = re.sub(r"<details.*?</details>", "", page.read_text(), flags=re.DOTALL)
        assert re.findall(r"[^\n<>]*(?<!>)arXiv:\d+[^\n<>]*", text) == [], page.name
        plain = re.findall(r"as in <code>(\w+)</code>", text)
        assert [name for name in plain if f'id="gradtx.{name}"' in text] == [], page.name
