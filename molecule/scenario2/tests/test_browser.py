"""What a person sees in a browser, through an SSH tunnel, before and after a restart.

SCREENSHOTS=<directory> keeps two pictures, those of docs/scenario2.md.
"""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser import keep, see_picture, see_run, window
from playwright.sync_api import Page, expect

# Nothing in it has to do with the release of Debian.
HOSTS = "debian12-server"

Run = Callable[..., str]
ADDRESS = "http://localhost:5000"

# What other programs on localhost leave: cookies know no ports. Those of a notebook server, and of
# an MLflow with users that ran here before.
FOREIGN_COOKIES = {
    "_xsrf": "2|d2cf1d9e|b8b0c5e1a9|1795386951",
    "username-localhost-8888": "2|1:0|10:1795386951|23:username-localhost-8888|200:" + "e" * 400,
    "session": "eyJjc3JmX3Rva2VuIjoiZjM4MmQifQ.aXfz1w.none-of-this-servers-keys",
}


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

    # Names of its own, where somebody has been here: it is known by its tag.
    [experiment] = search("experiments", max_results=1, filter="tags.mlflow_smoke LIKE '%'")
    number = experiment["experiment_id"]
    [newest] = search("runs", max_results=1, experiment_ids=[number], order_by=["start_time DESC"])
    info: dict[str, str] = newest["info"]
    names = {"name": info["run_name"], "experiment name": experiment["name"]}
    return {"id": info["run_id"], "experiment": number, **names}


@pytest.fixture(scope="module")
def page(tunnel: int) -> Iterator[Page]:
    """One window for all tests."""
    # The address is the one that people type; on which port the tunnel ends is the test's affair.
    with window(f"--host-resolver-rules=MAP localhost:5000 127.0.0.1:{tunnel}") as page:
        page.context.add_cookies(
            [{"name": n, "value": v, "url": ADDRESS} for n, v in FOREIGN_COOKIES.items()]
        )
        yield page


def test_the_experiment(page: Page, run: dict[str, str]) -> None:
    page.goto(f"{ADDRESS}/#/experiments")
    page.get_by_text("Model training").click()  # rather than the pages for language models
    page.get_by_role("link", name=run["experiment name"]).click()
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
