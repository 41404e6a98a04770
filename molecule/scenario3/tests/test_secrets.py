"""No secret is where anybody could read it: on no host, and in nothing that Ansible says."""

import json
import time
from pathlib import Path

from hosts import Lab

SERVER = "mlflow.example.com"
ALAN = "canary-of-alan-who-comes-later"

# Watches what `ps` would show, as long as it runs.
WATCH = r"""
cat > /run/watch <<'END_OF_WATCH'
while :; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' >> /run/watched; sleep 0.1; done
END_OF_WATCH
rm -f /run/watched
systemd-run --quiet --unit=watch-processes sh /run/watch
"""
# The journal, which administrators read, and all files that an ordinary user may read.
READABLE = r"""
journalctl --no-pager -o cat
systemctl show '*' 2>/dev/null || true
find / -xdev -type f -perm -o=r -size -2000k -not -path '/usr/*' -not -path '/opt/mlflow/*/lib/*' \
  -not -path '/var/lib/dpkg/*' -not -path '/var/cache/*' -exec cat {} + | tr -cd '[:print:]\n'
"""
# All that the serving process may read: its user's files, and what its processes were told.
READABLE_BY_SERVICE = r"""
cd /; {
runuser -u mlflow -- find / /run -xdev -type f -readable -size -2000k -not -path '/usr/*' \
  -not -path '/opt/mlflow/*/lib/*' -not -path '/var/lib/dpkg/*' -not -path '/var/cache/*' \
  -exec cat {} + 2>/dev/null || true
for process in $(pgrep -u mlflow); do cat /proc/$process/environ; done
} | tr -cd '[:print:]\n'
"""
# As a server has it that was set up when MLflow still read the password there.
AS_BEFORE = (
    'sed -i "s/^admin_password =.*/admin_password = $(cat /etc/mlflow/admin_password)/" '
    "/etc/mlflow/basic_auth.ini"
)
# Those that were made on the server's host.
MADE = r"""
cut -d= -f2- /etc/mlflow/secrets.env
sed -n 's/^AWS_SECRET_ACCESS_KEY=//p' /etc/mlflow/server.env | tr -d '"'
find /etc/ssl/mlflow* /etc/seaweedfs -type f -name '*.key' -exec sed -n 2p {} \;
grep -hoE '"?secretKey"?: *"[^"]+"' /etc/seaweedfs/s3.json | cut -d'"' -f4
sed -n 's/^ *key *= *"\(.*\)"/\1/p' /etc/seaweedfs/security.toml
"""


def secrets(lab: Lab) -> set[str]:
    """Return every secret there is: those that people chose, and those made on the hosts."""
    chosen = [*lab.variables["vault_mlflow_users"].values(), ALAN]
    chosen.append(lab.variables["mlflow_server_auth_admin_password"])
    made = [word for word in lab.root(SERVER, MADE).splitlines() if not word.startswith("#")]
    found = {word.strip() for word in [*chosen, *made] if len(word.strip()) > 10 and word[0] != "/"}
    assert len(found) >= 9, found
    return found


def test_nowhere_to_be_read(lab: Lab, tmp_path: Path) -> None:
    lab.root(SERVER, AS_BEFORE)
    for host in lab.hosts:
        lab.root(host, WATCH)
    users = [
        {"name": name, "password": f"{{{{ vault_mlflow_users.{name} }}}}"}
        for name in ("ada", "grace")
    ]
    later = tmp_path / "later.json"  # as a file, as vaults are: arguments are for all to see
    later.write_text(json.dumps({"mlflow_users": [*users, {"name": "alan", "password": ALAN}]}))
    try:
        said = lab.play("scenario3.yml", "-vvv", "--diff", "--extra-vars", f"@{later}")
    finally:
        time.sleep(0.5)
        watched = {
            host: lab.root(host, "systemctl stop watch-processes; cat /run/watched")
            for host in lab.hosts
        }
    readable = {host: lab.root(host, READABLE) for host in lab.hosts}
    places = {"what Ansible says": said}
    places |= {f"processes of {host}": text for host, text in watched.items()}
    places |= {f"files and journal of {host}": text for host, text in readable.items()}
    for place, text in places.items():
        assert "mlflow" in text, f"{place} was not looked at"
        assert not [word for word in secrets(lab) if word in text], place


def test_the_service_reads_no_secret_that_it_does_not_need(lab: Lab) -> None:
    """Whoever makes it show its files has not become the administrator with that."""
    needed = lab.root(SERVER, "cat /etc/mlflow/server.env /etc/mlflow/secrets.env")
    others = {word for word in secrets(lab) if word not in needed}
    looked_at = {"MLFLOW_FLASK_SERVER_SECRET_KEY", "admin_username = admin"}
    text = lab.root(SERVER, READABLE_BY_SERVICE)
    assert {word for word in others | looked_at if word in text} == looked_at


def test_alan_leaves(lab: Lab) -> None:
    """Whom the inventory no longer wants cannot come in; his colleagues still can."""
    ask = (
        "curl -s -o /dev/null -w '%{{http_code}}' --cacert /etc/ssl/mlflow/ca.pem -u '{0}:{1}' "
        "--json '{{\"max_results\": 1}}' https://mlflow.example.com/api/2.0/mlflow/experiments/search"
    )
    assert lab.root(SERVER, ask.format("alan", ALAN)) == "200"
    people = [{"name": "ada", "password": lab.variables["vault_mlflow_users"]["ada"]}]
    said = lab.play("scenario3.yml", "--skip-tags", "smoke",
                    mlflow_users=[*people, {"name": "alan", "state": "absent"}])  # fmt: skip
    assert "changed=1" in said
    lab.root(SERVER, "sleep 61")  # passwords that were checked are believed for a minute
    assert lab.root(SERVER, ask.format("alan", ALAN)) == "401"
    assert lab.root(SERVER, ask.format("ada", people[0]["password"])) == "200"
