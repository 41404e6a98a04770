#!/usr/bin/env python3
"""Throw-away Debian hosts: systemd containers that Ansible reaches over real SSH.

    lab.py engine                                a Docker engine that answers
    lab.py images [debian12] [debian13]          the base images
    lab.py browser                               Chromium, for tests of what people see
    lab.py promtool                              Prometheus' promtool, for tests of alert rules
    lab.py earlier                               the earlier release that hosts are taken over from
    lab.py up LAB HOST:IMAGE[:GROUP,...]...      hosts, and .lab/LAB/hosts.yml, their inventory
    lab.py restart LAB HOST                      a host that boots again
    lab.py down LAB | --all                      none of it

Each step is skipped when done. A lab has its own network, on which hosts find one another by
name, its own SSH key, and names that two checkouts do not share. Variables: LAB_IMAGE_DEBIAN12
and LAB_IMAGE_DEBIAN13 name Debian images of one's own to build on.

A host of debian12+hardened, say, is one as security departments hand them out (harden.sh): umask
077, /tmp noexec, hidepid, IPv6 alone, German. Its lab has a proxy, by which it reaches the outside.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STATE = ROOT / ".lab"
CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
LABEL = "mlflow-lab"
SUITES = {"debian12": "bookworm", "debian13": "trixie"}
HARDENED = "+hardened"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

# As little as systemd needs; --privileged would be more, and some machines refuse it.
RUN_OPTIONS = [
    "--cap-add=SYS_ADMIN",
    "--cap-add=SYS_PTRACE",  # units with both PrivateUsers and ProtectProc, as on a real host
    "--cap-add=NET_ADMIN",  # units with PrivateNetwork, whose own loopback systemd brings up
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--cgroupns=private",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp:exec",
]

# Each systemd uses eight of them, and a machine has 128 for all that root runs.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_WANTED = 512

# How this machine reaches package indexes, its hosts do too: in /etc/environment, which PAM
# reads for SSH and sudo alike.
TRANSPORT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")

# Runs in the container of a proxy, and leaves it there.
PROXY = """
apt-get update -q && apt-get install -q -y --no-install-recommends tinyproxy-bin
cat > /etc/tinyproxy.conf
tinyproxy -c /etc/tinyproxy.conf
"""

# Runs in a new host: takes the key and the environment (standard input); whether there is a cache
# (an argument; one directory a person, as pip and uv want it, and one for python_start.py); and, if
# it is to be hardened, by which proxy it reaches the outside. It answers with the SSH host key as
# soon as the system is up.
WELCOME = r"""
read -r key; echo "$key" > /etc/ssh/authorized_keys; cat > /etc/environment
if [ -n "$1" ]; then
    printf '%s_CACHE_DIR DEFAULT=/var/cache/lab/@{PAM_USER}\n' UV PIP >> /etc/security/pam_env.conf
    mkdir -p -m 1777 /var/cache/lab/compiled
fi
for _ in $(seq 300); do
    state=$(systemctl is-system-running 2>/dev/null)
    case $state in running|degraded) break ;; esac
    sleep 0.1
done
if [ -n "$2" ]; then
    for scheme in http https; do echo "Acquire::$scheme::Proxy \"$2\";"
    done > /etc/apt/apt.conf.d/lab
    systemctl enable --now --quiet harden.service || state=unhardened
fi
if [ "$state" = running ] && systemctl is-active --quiet ssh; then
    exec cat /etc/ssh/ssh_host_ed25519_key.pub
fi
echo "The system is $state, ssh is $(systemctl is-active ssh)." >&2
systemctl --failed --no-legend >&2; journalctl --no-pager -n 40 >&2; exit 1
"""


class LabError(Exception):
    """What went wrong and what to do, for a person."""


def run(*command: str | Path, stdin: str | None = None, timeout: float | None = None) -> str:
    """Return a command's output; raise LabError with what it said when it fails or is slow (s)."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed.") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(map(str, command))}: no end after {timeout} s") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise LabError(f"{' '.join(map(str, command))} failed:\n{said}")
    return done.stdout.strip()


def succeeds(*command: str | Path, timeout: float | None = None) -> bool:
    """Whether a command ends well."""
    try:
        run(*command, timeout=timeout)
    except LabError:
        return False
    return True


def say(words: str) -> None:
    """Tell the person what is going on; standard output is for results."""
    print(f"lab: {words}", file=sys.stderr, flush=True)


def as_root() -> list[str]:
    """Return what precedes a command that needs root: nothing, or sudo."""
    if os.geteuid() == 0:
        return []
    if succeeds("sudo", "-n", "true"):
        return ["sudo", "-n"]
    raise LabError(
        "This needs root, and sudo asks for a password. Run once, as an administrator:\n"
        "  apt-get install docker.io mmdebstrap postgresql rclone age && usermod -aG docker $USER"
    )


@functools.cache
def docker_command() -> tuple[str, ...]:
    """Return `docker`, behind sudo where the engine answers only to root."""
    if succeeds("docker", "info", timeout=20) or os.geteuid() == 0:
        return ("docker",)
    return (*as_root(), "docker")


def docker(*arguments: str | Path, stdin: str | None = None, timeout: float | None = None) -> str:
    """Run docker and return its output."""
    return run(*docker_command(), *arguments, stdin=stdin, timeout=timeout)


def apt_install(*packages: str) -> None:
    """Install Debian packages on this machine."""
    say(f"installing {' '.join(packages)}")
    run(*as_root(), "apt-get", "update", "--quiet")
    run(*as_root(), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--quiet",
        "--yes", "--no-install-recommends", *packages)  # fmt: skip


# engine ------------------------------------------------------------------------------------------


def inotify() -> None:
    """See to room for more than a dozen hosts, until this machine boots again."""
    if int(INOTIFY.read_text()) < INOTIFY_WANTED:
        say(f"raising {INOTIFY} to {INOTIFY_WANTED}: each host uses eight")
        run(*as_root(), "sh", "-c", f"echo {INOTIFY_WANTED} > {INOTIFY}")


def engine() -> None:
    """See to a Docker engine that answers; install and start Debian's where there is none."""
    inotify()
    if shutil.which("docker") and succeeds(*docker_command(), "info", timeout=20):
        return
    if not shutil.which("dockerd"):
        apt_install("docker.io")
    say("starting the Docker engine")
    if Path("/run/systemd/system").is_dir():
        run(*as_root(), "systemctl", "start", "docker")
    elif not succeeds("pgrep", "-x", "dockerd"):
        # One that was killed hard leaves these, and the next refuses to start.
        for stale in ("docker.pid", "docker/containerd/containerd.pid"):
            run(*as_root(), "rm", "-f", f"/var/run/{stale}")
        STATE.mkdir(exist_ok=True)
        with (STATE / "dockerd.log").open("ab") as log:
            subprocess.Popen(
                [*as_root(), "dockerd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives this program and its terminal
            )
    deadline = time.monotonic() + 30
    docker_command.cache_clear()
    while not succeeds(*docker_command(), "info", timeout=20):
        if time.monotonic() > deadline:
            raise LabError(f"The Docker engine does not answer; see {STATE}/dockerd.log.")
        time.sleep(0.5)


# images ------------------------------------------------------------------------------------------


def package_sources(suite: str) -> list[str]:
    """Return this machine's own Debian sources, as lines for `suite`.

    Raises LabError on a machine that has none (apt on another distribution).
    """
    listing = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)",
               "Identifier: Packages", "Origin: Debian")  # fmt: skip
    if not run(*listing):  # the origin is known once the lists are there
        run(*as_root(), "apt-get", "update", "--quiet")
    rows = [row.split() for row in dict.fromkeys(run(*listing).splitlines())]
    if not rows:
        raise LabError(
            "No Debian package source on this machine and no image registry.\n"
            "  Set LAB_IMAGE_DEBIAN12 and LAB_IMAGE_DEBIAN13 to Debian images of your own."
        )
    # bookworm, bookworm-updates, bookworm-security: the first part is the release.
    return [
        f"deb {uri} {suite}{code.removeprefix(code.partition('-')[0])} {component}"
        for uri, code, component in rows
    ]


def base_image(name: str) -> str:
    """Return a plain Debian image: one's own, the official one, or one made from packages."""
    suite = SUITES[name]
    own = os.environ.get(f"LAB_IMAGE_{name.upper()}")
    official, made = f"debian:{suite}", f"{LABEL}/base:{name}"
    for image in (own,) if own else (official, made):
        if succeeds(*docker_command(), "image", "inspect", image):
            return image
    if own or succeeds(*docker_command(), "manifest", "inspect", official, timeout=10):
        say(f"pulling {own or official}")
        docker("pull", "--quiet", own or official, timeout=600)
        return own or official
    if not shutil.which("mmdebstrap"):
        apt_install("mmdebstrap")
    say(f"no image registry: making {made} from this machine's package source")
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder, "base.tar")
        run(*as_root(), "mmdebstrap", "--quiet", "--variant=minbase", suite, tar, "-",
            stdin="\n".join(package_sources(suite)))  # fmt: skip
        docker("import", tar, made)
    return made


def host_image(name: str, base: str) -> str:
    """Return the tag of `base` made a host; skipped when one of just these inputs is there."""
    parts = ("Dockerfile", "python_start.py", "harden.sh")
    files = {file: (HERE / file).read_bytes() for file in parts}
    files["ca-certificates.crt"] = Path(CA_BUNDLE).read_bytes()
    base_id = docker("image", "inspect", "--format", "{{.Id}}", base).encode()
    digest = hashlib.sha256(b"".join([base_id, *files.values()])).hexdigest()
    tag = f"{LABEL}/{name}:{digest[:12]}"
    if succeeds(*docker_command(), "image", "inspect", tag):
        return tag
    say(f"building {tag}")
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            Path(folder, file).write_bytes(content)
        # Debian's docker.io has no buildx; its classic builder is all that this needs.
        classic = [] if succeeds(*docker_command(), "buildx", "version") else ["DOCKER_BUILDKIT=0"]
        proxies = [f"--build-arg={name}" for name in ("http_proxy", "https_proxy", "no_proxy")]
        run("env", *classic, *docker_command(), "build", "--quiet", *proxies,
            f"--build-arg=BASE={base}", f"--tag={tag}", folder, timeout=900)  # fmt: skip
    return tag


def images(names: Sequence[str]) -> dict[str, str]:
    """Return the image tag of each name."""
    for name in names:
        if name not in SUITES:
            raise LabError(f"No image {name!r}; there are: {', '.join(SUITES)}.")
    bases = [base_image(name) for name in names]  # one after the other: apt locks
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(host_image, names, bases), strict=True))


# browser -----------------------------------------------------------------------------------------


def browser() -> None:
    """See to Debian's Chromium, a font that it can write with, and what makes it trust a CA."""
    if not (shutil.which("chromium") and shutil.which("certutil")):
        apt_install("chromium", "fonts-dejavu-core", "libnss3-tools")


# promtool ----------------------------------------------------------------------------------------


def promtool() -> None:
    """See to Debian's promtool, taken out of its package: the service in it is not wanted here."""
    program = ROOT / ".cache/promtool"
    if shutil.which("promtool") or program.exists():
        return
    say("fetching promtool")
    run(*as_root(), "apt-get", "update", "--quiet")
    with tempfile.TemporaryDirectory() as folder:
        fetch = 'cd "$0" && apt-get download --quiet prometheus && dpkg-deb -x prometheus_*.deb .'
        run("sh", "-c", fetch, folder)
        program.parent.mkdir(exist_ok=True)
        shutil.copy(Path(folder, "usr/bin/promtool"), program)


# labs --------------------------------------------------------------------------------------------


def address(container: str, *, ipv6: bool) -> str:
    """Return a container's address."""
    name = "GlobalIPv6Address" if ipv6 else "IPAddress"
    form = f"{{{{range .NetworkSettings.Networks}}}}{{{{.{name}}}}}{{{{end}}}}"
    return docker("inspect", "--format", form, container)


def start_proxy(network: str, labels: Sequence[str], image: str) -> str:
    """Start a lab's proxy, in a container that has IPv4 as well; return its address."""
    container = f"{network}-proxy"
    settings = ["Port 3128", "Listen ::", "Timeout 600", "MaxClients 500"]
    if proxy := urlsplit(os.environ.get("HTTPS_PROXY", "")).netloc:  # this machine's own
        settings.append(f"Upstream http {proxy}")
    docker("run", "--detach", f"--name={container}", f"--network={network}",
           *labels, image, "sleep", "infinity")  # fmt: skip
    docker("exec", "-i", container, "sh", "-c", PROXY, stdin="\n".join([*settings, ""]))
    return f"http://[{address(container, ipv6=True)}]:3128"


def up(lab: str, hosts: Sequence[str], user: str, *, isolated: bool, cache: bool) -> Path:
    """Start a lab's hosts and return the path of their inventory.

    A lab of this name that is there already makes way: hosts are always fresh. `hosts` are
    HOST:IMAGE[:GROUP,...]; `isolated` cuts them off from all but this machine; `cache` shares
    one volume of downloads among all labs (never for measurements).
    """
    wanted = [(*host.split(":"), "")[:3] for host in hosts]
    if bad := [host for host in hosts if len(host.split(":")) not in (2, 3)]:
        raise LabError(f"{bad[0]!r} is not HOST:IMAGE or HOST:IMAGE:GROUP,...")
    tags = images(sorted({image.removesuffix(HARDENED) for _, image, _ in wanted}))
    down(lab)
    folder = STATE / lab
    folder.mkdir(parents=True)
    key = folder / "id_ed25519"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", lab, "-f", key)
    network = f"{LABEL}-{CHECKOUT}-{lab}"
    labels = [f"--label={LABEL}.checkout={CHECKOUT}", f"--label={LABEL}.name={lab}"]
    hardened = {name for name, image, _ in wanted if image.endswith(HARDENED)}
    # Of addresses that are nobody's elsewhere (RFC 4193).
    prefix = f"fd{hashlib.sha256(network.encode()).hexdigest()[:10]}"
    subnet = ":".join(prefix[at : at + 4] for at in range(0, 12, 4)) + "::/64"
    ipv6 = ["--ipv6", f"--subnet={subnet}"] if hardened else []
    docker("network", "create", *(["--internal"] if isolated else []), *ipv6, *labels, network)
    proxy = start_proxy(network, labels, next(iter(tags.values()))) if hardened else ""

    settings = [f"SSL_CERT_FILE={CA_BUNDLE}", f"PIP_CERT={CA_BUNDLE}"]
    settings += [f"{name}={os.environ[name]}" for name in TRANSPORT if name in os.environ]
    welcome = "\n".join([Path(f"{key}.pub").read_text().strip(), *settings, ""])

    def start(name: str, image: str) -> tuple[str, str]:
        """Start one host; return its address and its SSH host key."""
        container = f"{network}-{name}"
        # What is kept with umask 077 is for one person alone, and an earlier release copies that.
        volume = f"{LABEL}-cache" + ("-hardened" if name in hardened else "")
        mounts = [f"--volume={volume}:/var/cache/lab"] if cache else []
        docker("run", "--detach", f"--name={container}", f"--hostname={name}",
               f"--network={network}", f"--network-alias={name}", *labels, *mounts, *RUN_OPTIONS,
               tags[image.removesuffix(HARDENED)])  # fmt: skip
        arguments = ["cache" if cache else "", proxy if name in hardened else ""]
        try:
            host_key = docker("exec", "-i", container, "sh", "-c", WELCOME, "welcome", *arguments,
                              stdin=welcome)  # fmt: skip
        except LabError as error:
            raise LabError(f"{name} ({image}) did not come up.\n{error}") from error
        return address(container, ipv6=name in hardened), host_key

    with ThreadPoolExecutor(len(wanted)) as pool:
        started = list(pool.map(lambda host: start(*host[:2]), wanted))

    known_hosts = folder / "known_hosts"
    known_hosts.write_text("".join(f"{place} {host_key}\n" for place, host_key in started))
    inventory: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for (name, _, groups), (place, _) in zip(wanted, started, strict=True):
        for group in groups.split(","):
            inventory.setdefault(group or "ungrouped", {"hosts": {}})["hosts"][name] = {
                "ansible_host": place,
                "ansible_user": user,
                "ansible_ssh_private_key_file": str(key),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts}",
                **({"mlflow_proxy": proxy} if name in hardened else {}),
            }
    path = folder / "hosts.yml"
    path.write_text(json.dumps(inventory, indent=2) + "\n")  # JSON is YAML
    return path


def restart(lab: str, host: str) -> None:
    """Boot a host again; it has its address and its files afterwards, but nothing that ran."""
    docker("restart", f"{LABEL}-{CHECKOUT}-{lab}-{host}")


def down(lab: str | None) -> None:
    """Remove a lab, or all labs of this checkout; ask nothing and mind nothing that is gone."""
    mine = [f"--filter=label={LABEL}.checkout={CHECKOUT}"]
    if lab:
        mine.append(f"--filter=label={LABEL}.name={lab}")
    if containers := docker("ps", "--all", "--quiet", *mine).split():
        docker("rm", "--force", "--volumes", *containers)
    if networks := docker("network", "ls", "--quiet", *mine).split():
        docker("network", "rm", *networks)
    for inventory in STATE.glob(f"{lab or '*'}/id_ed25519"):
        shutil.rmtree(inventory.parent)


# An earlier release ------------------------------------------------------------------------------

# The last one before programs had a package: hosts that it set up are taken over by this one.
EARLIER = "880814dbe696edafee51df7909744f4900d94cc7"


def earlier() -> None:
    """See to the playbooks of that release, taken out of this repository's own history."""
    folder = ROOT / ".lab/earlier"
    if (folder / ".complete").exists():
        return
    archive = subprocess.run(
        ["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        raise LabError(
            f"this clone lacks the commit {EARLIER[:7]}, from which hosts are taken over: "
            "git fetch --unshallow"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    (folder / ".complete").touch()


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("engine", help="see to a Docker engine")
    verbs.add_parser("browser", help="see to Chromium")
    verbs.add_parser("promtool", help="see to promtool")
    verbs.add_parser("earlier", help="see to an earlier release of these playbooks")
    verb = verbs.add_parser("images", help="see to the base images")
    verb.add_argument("images", nargs="*", metavar="IMAGE", default=list(SUITES))
    verb = verbs.add_parser("up", help="start hosts")
    verb.add_argument("lab", metavar="LAB")
    verb.add_argument("hosts", metavar="HOST:IMAGE[:GROUP,...]", nargs="+")
    verb.add_argument("--user", default="ada", help="whom Ansible connects as (default: ada)")
    verb.add_argument("--network-none", action="store_true", help="no way to the outside")
    verb.add_argument("--cache", action="store_true", help="share downloads with other labs")
    verb = verbs.add_parser("restart", help="boot a host again")
    verb.add_argument("lab", metavar="LAB")
    verb.add_argument("host", metavar="HOST")
    verb = verbs.add_parser("down", help="remove hosts")
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("lab", metavar="LAB", nargs="?")
    which.add_argument("--all", action="store_true", help="every lab of this checkout")
    options = parser.parse_args()
    try:
        if options.verb == "engine":
            engine()
        elif options.verb == "browser":
            browser()
        elif options.verb == "promtool":
            promtool()
        elif options.verb == "earlier":
            earlier()
        elif options.verb == "images":
            print("\n".join(images(options.images).values()))
        elif options.verb == "up":
            print(up(options.lab, options.hosts, options.user, isolated=options.network_none,
                     cache=options.cache))  # fmt: skip
        elif options.verb == "restart":
            restart(options.lab, options.host)
        else:
            down(options.lab)
    except LabError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
