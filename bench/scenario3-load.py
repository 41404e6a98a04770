"""Put load on several tracking servers in turn, as an authenticated user; standard library alone.

  search NAME=URL...    times of `experiments/search`, one client, in milliseconds
  runs NAME=URL...      runs a second of eight clients; a run is: create, log_batch of 10 metrics
                        and 5 params, finish

A URL says who: https://user:password@host:port. BENCH_CA in the environment is the file of a
private CA. Prints a JSON object: for each name a list of its values.
"""

import base64
import http.client
import json
import multiprocessing
import os
import ssl
import sys
import time
from typing import Any
from urllib.parse import unquote, urlsplit

CLIENTS, ROUNDS, REQUESTS, SECONDS = 8, 5, 20, 10.0


class Client:
    """One kept connection to a server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host = str(parts.hostname)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=os.environ["BENCH_CA"])
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port or 443, context=context
            )
        else:
            self.connection = http.client.HTTPConnection(host, parts.port or 80)
        who = f"{unquote(str(parts.username))}:{unquote(str(parts.password))}"
        self.headers = {
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(who.encode()).decode(),
        }

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request and decode its answer; ends the program on another status than 200."""
        self.connection.request("POST", f"/api/2.0/mlflow/{path}", json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            sys.exit(f"{self.connection.host}: {path} answered {answer.status}: {content[:200]!r}")
        decoded: dict[str, Any] = json.loads(content or b"{}")
        return decoded


def search(client: Client) -> float:
    """Return how long one search and its whole answer take, in ms."""
    start = time.perf_counter()
    client.call("experiments/search", {"max_results": 100})
    return round((time.perf_counter() - start) * 1000, 2)


def log(url: str, experiment: str, done: Any) -> None:
    """Log runs for a while, to the end of the last, and say how many a second that were."""
    client, count = Client(url), 0
    client.call("experiments/search", {"max_results": 1})  # a first password costs more
    start = time.monotonic()
    while time.monotonic() < start + SECONDS:
        now = int(time.time() * 1000)
        run = client.call("runs/create", {"experiment_id": experiment, "start_time": now})
        run_id = run["run"]["info"]["run_id"]
        metrics = [{"key": f"m{i}", "value": i, "timestamp": now, "step": 0} for i in range(10)]
        params = [{"key": f"p{i}", "value": str(i)} for i in range(5)]
        client.call("runs/log-batch", {"run_id": run_id, "metrics": metrics, "params": params})
        client.call("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": now})
        count += 1
    done.put(count / (time.monotonic() - start))


def rate(url: str) -> float:
    """Return the runs a second of all clients together."""
    name = f"bench {time.time_ns()}"
    experiment = Client(url).call("experiments/create", {"name": name})["experiment_id"]
    done: Any = multiprocessing.Queue()
    clients = [
        multiprocessing.Process(target=log, args=(url, experiment, done)) for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    rates = [done.get(timeout=SECONDS * 20) for _ in clients]
    for client in clients:
        client.join()
    return round(float(sum(rates)), 2)


def main() -> None:
    """Do what the arguments say."""
    what, *pairs = sys.argv[1:]
    urls = dict(pair.split("=", 1) for pair in pairs)
    values: dict[str, list[float]] = {name: [] for name in urls}
    if what == "search":
        clients = {name: Client(url) for name, url in urls.items()}
        for client in clients.values():  # a server's first answer is like no other
            search(client)
        for _ in range(ROUNDS):
            for name, client in clients.items():
                values[name] += [search(client) for _ in range(REQUESTS)]
    else:
        for _ in range(3):
            for name, url in urls.items():
                values[name].append(rate(url))
    print(json.dumps(values))


main()
