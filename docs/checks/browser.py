"""Open built pages in a real browser, Qt's build of Chromium, and tell what it found; or take pictures of them.

    python docs/checks/browser.py HTML_FOLDER            a line of JSON for each page and width
    python docs/checks/browser.py HTML_FOLDER page.html --pictures FOLDER [--dark]

Wants `pip install PySide6-WebEngine`, which brings the browser with it. No screen is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_DISABLE_SANDBOX", "1")  # as root there is none
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--disable-gpu")
os.environ.setdefault("QT_LOGGING_RULES", "*=false")

from PySide6.QtCore import QEventLoop, QTimer, QUrl
from PySide6.QtWebEngineCore import (
    QWebEnginePage,
    QWebEngineProfile,
    QWebEngineSettings,
    QWebEngineUrlRequestInterceptor,
)
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication

WIDTHS = (390, 1280)
PATIENCE_MS = 30_000

MEASURE = """
(() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = (one) => { for (let up = one.parentElement; up && up !== document.body; up = up.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return true; return false; };
  const sticking = [...document.querySelectorAll("article *")].filter(
    (one) => one.getBoundingClientRect().right > wide + 1 && !scrolls(one));
  const broken = [...document.images].filter((one) => one.complete && !one.naturalWidth).map((one) => one.src);
  return JSON.stringify({
    page_width: document.documentElement.scrollWidth, window_width: wide,
    sticking_out: sticking.slice(0, 5).map((one) => one.outerHTML.slice(0, 120)), broken_images: broken,
    height: document.documentElement.scrollHeight });
})()
"""


class Page(QWebEnginePage):
    """A page that keeps what its scripts say to the console."""

    def __init__(self, profile: QWebEngineProfile, parent: object) -> None:
        super().__init__(profile, parent)
        self.said: list[str] = []

    def javaScriptConsoleMessage(self, level: object, message: str, line: int, source: str) -> None:
        self.said.append(f"{source}:{line}: {message}")


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that tells nobody what it serves."""

    def log_message(self, *told: object) -> None:
        pass


class Requests(QWebEngineUrlRequestInterceptor):
    """Notes, and refuses, all that a page wants of others than its own server."""

    def __init__(self, server: str) -> None:
        super().__init__()
        self.server = server
        self.refused: list[str] = []

    def interceptRequest(self, info: object) -> None:
        url = info.requestUrl().toString()
        if not url.startswith((self.server, "data:", "blob:")):
            self.refused.append(url)
            info.block(True)


class Browser:
    """One window, whose width can be changed, and the server of a folder of pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(self.folder)))
        threading.Thread(target=served.serve_forever, daemon=True).start()
        self.server = f"http://127.0.0.1:{served.server_port}/"
        self.application = QApplication.instance() or QApplication(sys.argv[:1])
        self.profile = QWebEngineProfile()
        self.requests = Requests(self.server)
        self.profile.setUrlRequestInterceptor(self.requests)
        self.view = QWebEngineView()
        self.page = Page(self.profile, self.view)
        self.page.settings().setAttribute(QWebEngineSettings.WebAttribute.ShowScrollBars, False)
        self.view.setPage(self.page)
        self.view.show()

    def resize(self, width: int, height: int) -> None:
        self.view.resize(width, height)

    def load(self, path: Path) -> bool:
        """Open a page, and wait until its scripts have run."""
        url = QUrl(self.server + path.relative_to(self.folder).as_posix())
        self.page.said, self.requests.refused = [], []
        return bool(self._wait(self.page.loadFinished, lambda: self.page.load(url)))

    def ask(self, script: str) -> str:
        """Run a script in the page, and return what it gives."""
        loop, answers = QEventLoop(), []
        self.page.runJavaScript(script, 0, lambda answer: (answers.append(answer), loop.quit()))
        QTimer.singleShot(PATIENCE_MS, loop.quit)
        loop.exec()
        return answers[0] if answers else "null"

    def pause(self, milliseconds: int) -> None:
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def _wait(self, signal: object, begin: object) -> object:
        loop, answers = QEventLoop(), []
        taken = lambda answer: (answers.append(answer), loop.quit())  # noqa: E731
        signal.connect(taken)
        QTimer.singleShot(PATIENCE_MS, loop.quit)
        begin()
        loop.exec()
        signal.disconnect(taken)
        return answers[0] if answers else None


def looked_at(browser: Browser, pages: list[Path]) -> Iterator[dict[str, object]]:
    """Yield what each page shows at each width."""
    for path in pages:
        for width in WIDTHS:
            browser.resize(width, 900)
            loaded = browser.load(path)
            found = json.loads(browser.ask(MEASURE) or "null") or {}
            told = {"page": str(path), "width": width, "loaded": loaded}
            yield {**told, **found, "console": browser.page.said, "network": browser.requests.refused}


def picture(browser: Browser, path: Path, width: int, dark: bool, folder: Path) -> None:
    """Write a picture of the whole page."""
    browser.resize(width, 900)
    browser.load(path)
    if dark:
        browser.ask("document.body.dataset.theme = 'dark'")
    browser.resize(width, min(json.loads(browser.ask(MEASURE))["height"], 8000))
    browser.pause(2500)
    browser.view.grab().save(str(folder / f"{path.parent.name}-{path.stem}-{width}{'-dark' if dark else ''}.png"))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("html", type=Path)
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--dark", action="store_true")
    chosen = parser.parse_args()
    pages = [chosen.html / page for page in chosen.pages] or sorted(chosen.html.rglob("*.html"))
    browser = Browser(chosen.html)
    if chosen.pictures:
        for page in pages:
            for width in WIDTHS:
                picture(browser, page.resolve(), width, chosen.dark, chosen.pictures)
    else:
        for found in looked_at(browser, [page.resolve() for page in pages]):
            print(json.dumps(found), flush=True)
    sys.stdout.flush()
    os._exit(0)  # Qt's own way out warns of pages that outlive their profile


if __name__ == "__main__":
    main()
