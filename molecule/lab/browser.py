"""What people see in a browser: Debian's Chromium, and what a run's pages must show."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import HttpCredentials, Page, TimeoutError, expect, sync_playwright

PATIENCE = 60_000  # ms; pages come within a second where nothing else runs

# Without these a fresh profile calls home, and as root (in containers, in CI) it does not start.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip

# MLflow's assistant covers a quarter of a newcomer's pages until closed.
ASSISTANT_SEEN = "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"

COLOURS = """async image => {
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
}"""


@contextmanager
def window(
    *arguments: str, credentials: HttpCredentials | None = None, home: Path | None = None
) -> Iterator[Page]:
    """Open one browser with one window: what it has stored, it keeps.

    Args:
        *arguments: Chromium's, besides those that it always needs.
        credentials: what a person types when a page asks who she is.
        home: the directory whose certificate authorities are trusted, if not this user's.
    """
    program = shutil.which("chromium")
    if not program:
        pytest.fail("chromium is missing: molecule/lab/lab.py browser")
    expect.set_options(timeout=PATIENCE)
    environment: dict[str, str | float | bool] = {**os.environ}
    if home:
        environment["HOME"] = str(home)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=[*ARGUMENTS, *arguments], env=environment
        )
        context = browser.new_context(
            viewport={"width": 1280, "height": 800}, http_credentials=credentials
        )
        context.set_default_timeout(PATIENCE)
        context.add_init_script(f"localStorage['{ASSISTANT_SEEN}'] = 'true'")
        page = context.new_page()
        dialog = page.get_by_role("dialog")

        def close() -> None:
            # What is new in the registry: deaf while it fades in, so again if need be; and gone by
            # itself when a page is left, which is as good.
            with suppress(TimeoutError):
                dialog.press("Escape", timeout=2_000)

        page.add_locator_handler(dialog, close, no_wait_after=True)
        yield page
        browser.close()


def keep(page: Page, name: str) -> None:
    """Keep a picture of the page, where someone asks for it."""
    if directory := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1000)  # until what fades in is there
        page.screenshot(path=Path(directory) / f"{name}.png")


def see_run(page: Page, run: dict[str, str]) -> None:
    """See the overview of a run: its name, parameters and metric."""
    expect(page.get_by_role("heading", name=run["name"])).to_be_visible()
    for title, name, value in (
        ("Parameters (2)", "C", "0.1"),
        ("Parameters (2)", "random_state", "42"),
        ("Metrics (1)", "accuracy", "0.96"),
    ):
        expect(page.get_by_text(title)).to_be_visible()
        row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
        expect(row.get_by_text(value, exact=True)).to_be_visible()


def see_picture(page: Page) -> None:
    """See the confusion matrix, and colours in it."""
    picture = page.locator("img[alt='confusion_matrix.png']").first
    expect(picture).to_be_visible()
    colours = picture.evaluate(COLOURS)
    assert colours > 5, f"{colours} colours are no confusion matrix"
