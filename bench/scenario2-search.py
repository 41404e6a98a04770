"""Time `experiments/search` on several servers in turn, each over one kept connection.

Arguments: TCP ports on this host. Prints a JSON object: for each port its times in milliseconds.
"""

import http.client
import json
import sys
import time

ROUNDS, REQUESTS = 10, 20
connections = {port: http.client.HTTPConnection("localhost", int(port)) for port in sys.argv[1:]}
times: dict[str, list[float]] = {port: [] for port in connections}


def search(connection: http.client.HTTPConnection) -> float:
    """Return how long one request and its whole answer take, in ms."""
    start = time.perf_counter()
    connection.request(
        "POST",
        "/api/2.0/mlflow/experiments/search",
        json.dumps({"max_results": 100}),
        {"Content-Type": "application/json"},
    )
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        sys.exit(f"{connection.host}:{connection.port} answered {answer.status}")
    return (time.perf_counter() - start) * 1000


for connection in connections.values():  # a server's first answer is like no other
    search(connection)
for _ in range(ROUNDS):
    for port, connection in connections.items():
        times[port] += [round(search(connection), 2) for _ in range(REQUESTS)]
print(json.dumps(times))
