"""Look at a host before anything is changed there: one trip, with named facts."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import host, installation

DOCUMENTATION = """
module: host_look
short_description: Look at a host before anything is changed there
description:
  - One trip that tells all that a role must know of a host. It changes nothing.
  - C(root), C(systemd), C(pid1) and C(ipv6) are told in any case, the rest where it is asked for.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  question:
    description:
      - What is asked. It is given back as it came, so that a role can see whether the answer that
        it has is one to just this question.
      - C(about), anything, for who asks; it is only given back.
      - C(contents), a list of files, whose text is to be told to the letter.
      - C(databases), a list of files that SQLite may have written, each with C(path), and C(by), a
        user with whose rights to look.
      - C(environments), a list of Python environments.
      - C(files), a list of files and directories, each with C(path), and of C(owner), C(group),
        C(mode) and C(sha256) what they should be. C(digest) where the digest of what is there is
        to be told. C(by) is a user with whose rights to look, where others may have put a link.
      - C(free), a list of paths.
      - C(installation), whether to tell what the record of what is installed says.
      - C(keeps), with C(owner), C(file) and C(wanted), what M(ops.mlflow.places) is to compare. It
        is no place for passwords.
      - C(keeps_addresses), whether to try if systemd can keep addresses from a unit.
      - C(machine), whether to tell how large the host is, and what it is called.
      - C(nginx), whether to look at Debian's nginx.
      - C(packages), names of Debian's packages.
      - C(pairs), a list of C(certificate) and C(key), files in PEM.
      - C(paths), a list of paths, or of dictionaries with C(path); C(by), a user with whose rights
        to look; and C(below), a directory from which on no link should be on the way.
      - C(ports), a list of C(port), TCP; C(ours), units that may listen there; and C(ours_if), a
        file without which they are not ours.
      - C(python_modules), a list of names, for the Python that Ansible uses on the host.
      - C(resolve), a list of addresses, whose hosts this one should know.
      - C(texts), a list of small text files.
      - C(tools), the link to the programs that M(ops.mlflow.tools) installs.
      - C(units), a dictionary by name. C(reads) is a list of files and links; C(at) is C(start),
        the default, or C(reload), where the unit reads them at both.
      - C(users), a list of names.
      - C(ways), a dictionary of paths that root is to write, by the variable that names each.
    type: dict
    default: {}
author: The project's maintainers
"""

EXAMPLES = """
- name: Look at the host
  ops.mlflow.host_look:
    question:
      units: {nginx.service: {reads: [/etc/nginx/conf.d/mlflow.conf], at: reload}}
      ports: [{port: 443, ours: [nginx.service]}]
      free: [/var/lib/mlflow]
  register: found

- name: Stop where another has the port
  ansible.builtin.fail:
    msg: "Port 443 is taken by {{ found.taken['443'] }}."
  when: "'443' in found.taken"
"""

RETURN = """
question:
  description: What was asked.
  returned: always
  type: dict
root:
  description: Whether the look is root's.
  returned: always
  type: bool
systemd:
  description: Whether systemd runs the host.
  returned: always
  type: bool
pid1:
  description: The name of process 1; V('') on a host that does not show it.
  returned: always
  type: str
ipv6:
  description: Whether the host has IPv6.
  returned: always
  type: bool
absent:
  description: Of C(files), the paths where nothing is.
  returned: if C(files) are asked for
  type: list
amiss:
  description: Of C(files), the paths of those that are not as they should be, or absent.
  returned: if C(files) are asked for
  type: list
addresses:
  description: The addresses that the host's name and its default routes have.
  returned: if C(machine) is asked for
  type: list
contents:
  description: By path, what is in those of the files that are there.
  returned: if C(contents) are asked for
  type: dict
cores:
  description: How many processors a process may use.
  returned: if C(machine) is asked for
  type: int
databases:
  description: By path, V(sqlite), V(empty), V(other), V(absent), or V(hidden) from who looks.
  returned: if C(databases) are asked for
  type: dict
digests:
  description: By path, the sha256 of files with C(digest); V('') of one that is among RV(amiss).
  returned: if C(files) are asked for
  type: dict
free_mb:
  description: By path, the room in MB in the nearest directory above it that there is.
  returned: if C(free) is asked for
  type: dict
in_memory:
  description: Of C(free), those in a file system that is memory.
  returned: if C(free) is asked for
  type: list
installation:
  description: The record of what is installed, as M(ops.mlflow.installation) returns it; empty
    without a server.
  returned: if C(installation) is asked for
  type: dict
keeps_addresses:
  description: Whether systemd can keep addresses from a unit; true where it was not to be tried.
  returned: if C(keeps_addresses) is asked for
  type: bool
listeners:
  description: By port as text, who listens. V('') is nobody, V(ours), or V(process 812 (nginx)).
  returned: if C(ports) are asked for
  type: dict
memory_mb:
  description: All of the host's memory, in MB.
  returned: if C(machine) is asked for
  type: int
mlflow:
  description: By environment, the version of MLflow in it; V('') for none.
  returned: if C(environments) are asked for
  type: dict
moved:
  description: Of C(keeps), by name the places that differ from what is installed, with C(old) and
    C(new).
  returned: if C(keeps) is asked for
  type: dict
names:
  description: The host's own names.
  returned: if C(machine) is asked for
  type: list
nginx:
  description: Its C(version), V('') for none; C(welcome_page), whether Debian's is served;
    C(own_page), whether somebody has edited it, and C(defaults), the ports whose default server it
    is then; and C(includes), of the sites in C(conf.d).
  returned: if C(nginx) is asked for
  type: dict
missing_packages:
  description: Which of Debian's packages are not installed.
  returned: if C(packages) are asked for
  type: list
  elements: str
pairs:
  description: By the certificate's path, whether it and its key can be read and are one pair.
  returned: if C(pairs) are asked for
  type: dict
paths:
  description: By path, its C(kind), V(absent), V(directory), V(file), V(other), or V(hidden) from
    who looks; where the C(link) there leads, V('') for none; its C(owner); and C(led), with
    C(path) and C(target) of the first link on the way, empty for none.
  returned: if C(paths) are asked for
  type: dict
python_modules:
  description: By name, whether the module is there.
  returned: if C(python_modules) are asked for
  type: dict
taken:
  description: Of RV(listeners), those that are neither nobody nor ours.
  returned: if C(ports) are asked for
  type: dict
texts:
  description: By path, what a file says, without space at its ends; V('') where there is none.
  returned: if C(texts) are asked for
  type: dict
tools:
  description: The C(directory) of the programs in use, V('') for none; whether there are
    C(others); and whether an C(earlier_switch), by the programs of a release before, is unfinished.
  returned: if C(tools) are asked for
  type: dict
unresolved:
  description: Of C(resolve), the hosts that this one cannot resolve. A proxy would do it for us.
  returned: if C(resolve) is asked for
  type: list
unusable:
  description: Of C(environments), why its Python cannot use the MLflow that is in it, by path.
  returned: if C(environments) are asked for
  type: dict
units:
  description: By name, the C(state) that systemd tells; whether the unit is C(active),
    C(enabled), or both, C(runs); whether its own files were changed since systemd read them,
    C(unit_changed), and what it C(reads) since it did, C(unread).
  returned: if C(units) are asked for
  type: dict
users:
  description: By name, whether the user C(exists), and is a C(person), which root is too.
  returned: if C(users) are asked for
  type: dict
ways:
  description: Of C(ways), those that root must not write, by variable. The C(place) on the way,
    who else may change it, C(by), and C(why), a sentence that says what to do.
  returned: if C(ways) are asked for
  type: dict
"""


def main() -> None:
    """Answer the question."""
    module = AnsibleModule({"question": {"type": "dict", "default": {}}}, supports_check_mode=True)
    question = module.params["question"]
    try:
        found = host.look(question)
    except host.UnknownQuestion as error:
        module.fail_json(msg=str(error))
    except installation.OtherRelease as error:
        module.fail_json(
            msg=f"{error} Run the playbook that provides the server first. Nothing was changed."
        )
    module.exit_json(changed=False, question=question, **found)


if __name__ == "__main__":
    main()
