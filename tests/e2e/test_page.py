"""The page in real headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.e2e.conftest import System
from tests.pictures import jpeg

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed; .ci/run installs it.")
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, system: System) -> Iterator[Page]:
    context = browser.new_context(base_url=system.client.server, locale="en-US")
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    yield page
    context.close()
    assert problems == []


@pytest.fixture(scope="module")
def folder(system: System) -> Path:
    folder = system.datasets / "page <b>&"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.jpg").write_bytes(jpeg(4000 + n))
    (folder / "<img src=x onerror=alert(1)>.jpg").write_bytes(jpeg(4100))
    system.index("page <b>&")
    return folder


def choose_dataset(page: Page) -> None:
    page.goto("/")
    select = page.locator("#dataset-select")
    expect(select.locator("option", has_text="page <b>&")).to_have_count(1)
    select.select_option(
        label=next(
            text for text in select.locator("option").all_text_contents() if "page <b>&" in text
        )
    )


def test_uploaded_picture_shows_its_neighbours(page: Page, folder: Path) -> None:
    choose_dataset(page)
    page.locator("#file-input").set_input_files(str(folder / "3.jpg"))
    first = page.locator("#results .result").first
    expect(first).to_contain_text("3.jpg")
    expect(first).to_contain_text("100")
    expect(page.locator("#results .result")).to_have_count(7)
    loaded = "i => i.complete && i.naturalWidth > 0"
    image = first.locator("img")
    page.wait_for_function(loaded, arg=image.element_handle())


def test_file_name_that_is_markup_is_shown_as_text(page: Page, folder: Path) -> None:
    choose_dataset(page)
    page.locator("#file-input").set_input_files(str(folder / "<img src=x onerror=alert(1)>.jpg"))
    first = page.locator("#results .result").first
    expect(first).to_contain_text("<img src=x onerror=alert(1)>.jpg")


def test_file_that_is_no_picture_shows_the_reason(
    browser: Browser, system: System, folder: Path, tmp_path: Path
) -> None:
    # Not the page fixture: Chromium reports the 415 itself as a console error.
    context = browser.new_context(base_url=system.client.server, locale="en-US")
    page = context.new_page()
    choose_dataset(page)
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    page.locator("#file-input").set_input_files(str(bad))
    expect(page.locator("#status")).to_contain_text("bad.jpg is not a picture")
    context.close()


def test_dataset_is_indexed_from_the_page(page: Page, system: System) -> None:
    fresh = system.datasets / "fresh"
    fresh.mkdir()
    (fresh / "a.jpg").write_bytes(jpeg(4200))
    page.goto("/")
    row = page.locator("#datasets li", has_text="fresh")
    expect(row).to_contain_text("0 of 1")
    row.get_by_role("button", name="Index: fresh").click()
    expect(page.locator("#datasets li", has_text="fresh")).to_contain_text("1 of 1")


def test_page_speaks_chinese_to_a_chinese_browser(browser: Browser, system: System) -> None:
    context = browser.new_context(base_url=system.client.server, locale="zh-CN")
    page = context.new_page()
    page.goto("/")
    expect(page.locator("body")).to_contain_text("图")
    context.close()


def test_visitor_from_elsewhere_signs_in_and_out(
    browser: Browser, system: System, folder: Path
) -> None:
    # A request that passed a proxy is not local, so it needs the token as from elsewhere.
    context = browser.new_context(
        base_url=system.client.server,
        locale="en-US",
        extra_http_headers={"X-Forwarded-For": "192.0.2.7"},
    )
    page = context.new_page()
    page.goto("/")
    expect(page).to_have_url(f"{system.client.server}/login")
    page.get_by_label("Token").fill("not the token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    token = (system.folder / "data" / "api_token").read_text().strip()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{system.client.server}/")
    expect(page.locator("#datasets li", has_text="page <b>&")).to_contain_text("7 of 7")
    assert page.evaluate("document.cookie") == ""
    context.clear_cookies()  # as when it has run out
    page.locator("#datasets li", has_text="page <b>&").get_by_role("button").first.click()
    expect(page).to_have_url(f"{system.client.server}/login")
    context.close()
