"""The built pages: every link leads somewhere, nothing comes from a network, nothing is wider than the window.

The folder of built pages stands in the environment: `PAGES=html pytest -n 0 docs/checks`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

HERE = Path(__file__).parent
BUILT = os.environ.get("PAGES")
built = pytest.mark.skipif(BUILT is None, reason="PAGES names no folder of built pages")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
NETWORK = ("http", "https")
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src", "embed": "src"}


class Page(HTMLParser):
    """What a page has: names to be linked to, links, files that it loads, and what might be too wide."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.bare_tables: list[str] = []
        self.fixed_widths: list[str] = []
        self.unnamed_images: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "manifest"):
            self.loaded.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append(given[LOADED[tag]])
        if (
            tag == "table"
            and "docutils" in given.get("class", "")
            and not any("table-wrapper" in classes for _, classes in self._open)
        ):
            self.bare_tables.append(given.get("class", ""))
        if tag == "img" and not given.get("alt") and "_thumb." not in given.get("src", ""):  # whose title stands below
            self.unnamed_images.append(given.get("src", ""))
        style = given.get("style", "").replace(" ", "")
        if "width:" in style and "px" in style and "max-width:" not in style:
            self.fixed_widths.append(f"<{tag} style={style}>")
        if tag not in VOID:
            self._open.append((tag, given.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass


def pages(folder: Path) -> dict[Path, Page]:
    """Return every page of a folder."""
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.resolve().rglob("*.html"))}


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    found = pages(Path(BUILT or ""))
    assert len(found) > 30
    return found


def broken_links(site: dict[Path, Page]) -> Iterator[str]:
    """Yield every link that leads nowhere: a file or a name that is missing, or an address that is none."""
    for path, page in site.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                right = "." in parts.netloc if parts.scheme in NETWORK else parts.scheme in ("mailto", "data")
            else:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                right = target.is_file() and (
                    not parts.fragment or target not in site or unquote(parts.fragment) in site[target].ids
                )
            if not right:
                yield f"{path.name}: {link}"


def from_elsewhere(site: dict[Path, Page]) -> Iterator[str]:
    """Yield every file that a page takes from a network, and all that a style sheet takes and that is not here."""
    for path, page in site.items():
        there = [link for link in page.loaded if urlsplit(link).scheme in NETWORK or urlsplit(link).netloc]
        yield from (f"{path.name}: {link}" for link in there)
    for sheet in {sheet for folder in {path.parent for path in site} for sheet in folder.rglob("*.css")}:
        for link in re.findall(r"""(?:url\(|@import )\s*["']?([^"')]+)""", sheet.read_text(encoding="utf-8")):
            if not link.startswith(("data:", "#")) and not (sheet.parent / link.partition("?")[0]).is_file():
                yield f"{sheet.name}: {link}"


@built
def test_every_link_leads_somewhere(site: dict[Path, Page]) -> None:
    assert list(broken_links(site)) == []


@built
def test_nothing_comes_from_a_network(site: dict[Path, Page]) -> None:
    assert list(from_elsewhere(site)) == []


@built
def test_tables_scroll_inside_themselves_and_nothing_has_a_width_in_pixels(site: dict[Path, Page]) -> None:
    assert [(path.name, page.bare_tables) for path, page in site.items() if page.bare_tables] == []
    assert [(path.name, page.fixed_widths) for path, page in site.items() if page.fixed_widths] == []


@built
def test_every_picture_is_described_for_those_who_do_not_see_it(site: dict[Path, Page]) -> None:
    assert [(path.name, page.unnamed_images) for path, page in site.items() if page.unnamed_images] == []


@built
def test_the_landing_page_has_claim_picture_install_code_version_repository_and_changelog() -> None:
    from janelia_core import __version__

    text = (Path(BUILT or "") / "index.html").read_text(encoding="utf-8")
    for wanted in (
        "Exact k-nearest-centre search",
        "<img",
        "pip",
        "CenterIndex",
        __version__,
        "github.com",
        "changelog.html",
    ):
        assert wanted in text


@built
def test_formulas_are_drawn_by_the_browser_itself() -> None:
    text = (Path(BUILT or "") / "exactness.html").read_text(encoding="utf-8")
    assert text.count("<math ") > 50
    assert "$$" not in text


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('<a href="gone.html">x</a>', "links"),
        ('<a href="other.html#gone">x</a>', "links"),
        ('<a href="https://nowhere">x</a>', "links"),
        ('<img src="gone.png" alt="x">', "links"),
        ('<script src="https://cdn.example.org/x.js"></script>', "network"),
        ('<link rel="stylesheet" href="//fonts.example.org/x.css">', "network"),
        ('<table class="docutils"></table>', "tables"),
        ('<p style="width: 900px">x</p>', "widths"),
        ('<img src="other.html">', "pictures"),
    ],
)
def test_a_planted_fault_is_seen(tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "other.html").write_text('<h1 id="here">x</h1>')
    good = '<a href="other.html#here">x</a><a href="https://example.org/x">x</a>'
    good += '<div class="table-wrapper"><table></table></div>'
    (tmp_path / "page.html").write_text(good)
    assert faults(pages(tmp_path)) == set()
    (tmp_path / "page.html").write_text(good + line)
    assert fault in faults(pages(tmp_path))


def faults(site: dict[Path, Page]) -> set[str]:
    """Return the kinds of faults of some pages."""
    kinds = {
        "links": list(broken_links(site)),
        "network": list(from_elsewhere(site)),
        "tables": [one for page in site.values() for one in page.bare_tables],
        "widths": [one for page in site.values() for one in page.fixed_widths],
        "pictures": [one for page in site.values() for one in page.unnamed_images],
    }
    return {kind for kind, found in kinds.items() if found}


def reason_against_a_browser() -> str:
    """Return why no browser can be opened here; nothing if one can."""
    if importlib.util.find_spec("PySide6") is None:
        return "no browser: PySide6-WebEngine is not installed"
    run = subprocess.run([sys.executable, "-c", "import PySide6.QtWebEngineWidgets"], capture_output=True, text=True)
    return f"no browser: {run.stderr.strip().splitlines()[-1]}" if run.returncode else ""


def shown(folder: Path) -> list[dict[str, object]]:
    """Return what a browser says of every page of a folder, at each width."""
    reason = reason_against_a_browser()
    if reason:
        pytest.skip(reason)
    command = [sys.executable, str(HERE / "browser.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def complaints(found: dict[str, object]) -> dict[str, object]:
    """Return what is wrong with a page as it was shown."""
    wrong = {key: found[key] for key in ("console", "network", "sticking_out", "broken_images") if found.get(key)}
    if not found["loaded"]:
        wrong["loaded"] = False
    elif found["page_width"] > found["window_width"]:  # type: ignore[operator]
        wrong["page_width"] = found["page_width"]
    return {"page": found["page"], "width": found["width"], **wrong} if wrong else {}


@built
def test_in_a_browser_no_page_scrolls_sideways_or_complains(site: dict[Path, Page]) -> None:
    found = shown(Path(BUILT or ""))
    assert {(one["page"], one["width"]) for one in found} == {
        (str(path), width) for path in site for width in (390, 1280)
    }
    assert [wrong for one in found if (wrong := complaints(one))] == []


def test_what_is_wrong_in_a_browser_is_seen(tmp_path: Path) -> None:
    planted = {
        "good": "<p>narrow</p><div style='overflow-x: auto'><div style='width: 2000px'>wide, inside</div></div>",
        "page_width": "<div style='width: 1000px; background: red'>wide</div>",
        "console": "<script>gone.gone()</script>",
        "network": "<script src='https://example.org/x.js'></script>",
        "broken_images": "<img src='gone.png'>",
    }
    for name, body in planted.items():
        head = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        (tmp_path / f"{name}.html").write_text(f"{head}<body><article>{body}</article>")
    wrong = {Path(str(one["page"])).stem: complaints(one) for one in shown(tmp_path) if one["width"] == 390}
    assert wrong.pop("good") == {}
    assert [name for name in wrong if name not in wrong[name]] == []
