"""Print, as JSON, which TCP ports of each host answer."""

import json
import socket
import sys


def answers(address: str, port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(5)
        return one.connect_ex((address, port)) == 0


addresses = {host: socket.gethostbyname(host) for host in sys.argv[1:]}
print(json.dumps({
    host: [port for port in range(1, 65536) if answers(address, port)]
    for host, address in addresses.items()
}))  # fmt: skip
