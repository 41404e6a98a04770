"""What a person sees in a browser, through an SSH tunnel, before and after a restart.

SCREENSHOTS=<directory> keeps two pictures, those of docs/scenario2.md.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

Run = Callable[..., str]
ADDRESS = "http://localhost:5000"
PATIENCE = 60_000  # ms; pages come within a second where nothing else runs

# Without these a fresh profile calls home, and as root (in containers, in CI) it does not start.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip

# What other programs on localhost leave: cookies know no ports. Those of a notebook server, and of
# an MLflow with users that ran here before.
FOREIGN_COOKIES = {
    "_xsrf": "2|d2cf1d9e|b8b0c5e1a9|1795386951",
    "username-localhost-8888": "2|1:0|10:1795386951|23:username-localhost-8888|200:" + "e" * 400,
    "session": "eyJjc3JmX3Rva2VuIjoiZjM4MmQifQ.aXfz1w.none-of-this-servers-keys",
}

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


@pytest.fixture(scope="module")
def tunnel(variables: dict[str, str]) -> Iterator[int]:
    """A local port that leads to the server's loopback, as `ssh -L` makes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = ["ssh", "-N", "-F", "none", "-l", "ada", "-L", f"127.0.0.1:{port}:localhost:5000"]
    command += [*variables["ansible_ssh_common_args"].split(), "-o", "ExitOnForwardFailure=yes"]
    command += ["-i", variables["ansible_ssh_private_key_file"], variables["ansible_host"]]
    with subprocess.Popen(command) as ssh:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
        ssh.terminate()


@pytest.fixture(scope="module")
def run(play: Run, tunnel: int) -> dict[str, str]:
    """A run to look at: what the smoke leaves when it is told to."""
    play("scenario2.yml", "--tags", "smoke", user="ops", smoke_keep="true")

    def search(what: str, **query: Any) -> Any:
        request = urllib.request.Request(
            f"http://localhost:{tunnel}/api/2.0/mlflow/{what}/search",
            json.dumps(query).encode(),
            {"Content-Type": "application/json", "Host": "localhost:5000"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)[what]

    [experiment] = search("experiments", max_results=1, filter="name = 'my-experiment-1'")
    number = experiment["experiment_id"]
    [newest] = search("runs", max_results=1, experiment_ids=[number], order_by=["start_time DESC"])
    info: dict[str, str] = newest["info"]
    return {"id": info["run_id"], "name": info["run_name"], "experiment": number}


@pytest.fixture(scope="module")
def page(tunnel: int) -> Iterator[Page]:
    """One browser with one window for all tests: what it has stored, it keeps."""
    program = shutil.which("chromium")
    if not program:
        pytest.fail("chromium is missing: molecule/lab/lab.py browser")
    expect.set_options(timeout=PATIENCE)
    # The address is the one that people type; on which port the tunnel ends is the test's affair.
    arguments = [*ARGUMENTS, f"--host-resolver-rules=MAP localhost:5000 127.0.0.1:{tunnel}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PATIENCE)
        context.add_init_script(f"localStorage['{ASSISTANT_SEEN}'] = 'true'")
        context.add_cookies(
            [{"name": n, "value": v, "url": ADDRESS} for n, v in FOREIGN_COOKIES.items()]
        )
        page = context.new_page()
        # What is new in the registry, in a dialog; deaf while it fades in, so again if need be.
        dialog = page.get_by_role("dialog")
        page.add_locator_handler(dialog, lambda: dialog.press("Escape"), no_wait_after=True)
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


def test_the_experiment(page: Page, run: dict[str, str]) -> None:
    page.goto(f"{ADDRESS}/#/experiments")
    page.get_by_text("Model training").click()  # rather than the pages for language models
    page.get_by_role("link", name="my-experiment-1").click()
    expect(page.get_by_role("link", name=run["name"])).to_be_visible()


def test_the_run(page: Page, run: dict[str, str]) -> None:
    page.get_by_role("link", name=run["name"]).click()
    see_run(page, run)
    keep(page, "scenario2-run")


def test_the_picture(page: Page) -> None:
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("confusion_matrix.png").first.click()
    see_picture(page)
    keep(page, "scenario2-picture")


def test_the_registered_model(page: Page, run: dict[str, str]) -> None:
    page.goto(f"{ADDRESS}/#/models")
    page.get_by_role("link", name="iris-classifier").first.click()
    page.get_by_role("link", name="Version").first.click()
    expect(page.get_by_role("link", name=run["name"])).to_be_visible()


def test_the_same_session_after_a_restart(page: Page, run: dict[str, str], ssh: Run) -> None:
    """Nobody needs to delete cookies: the window that was open goes on, and so it does anew."""
    page.goto(f"{ADDRESS}/#/experiments/{run['experiment']}/runs/{run['id']}")
    see_run(page, run)
    ssh("sudo systemctl restart mlflow", user="ops")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("confusion_matrix.png").first.click()
    see_picture(page)
    page.goto(f"{ADDRESS}/#/experiments/{run['experiment']}/runs/{run['id']}")
    page.reload()
    see_run(page, run)
    assert {*FOREIGN_COOKIES} <= {cookie.get("name") for cookie in page.context.cookies()}
