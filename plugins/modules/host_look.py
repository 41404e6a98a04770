"""Ansible's way to mlflow_ops.host: one look at a host, with named facts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_look
short_description: Look at a host before anything is changed there
description:
  - One trip that tells all that a role must know of a host. It changes nothing, and is the same in check mode.
  - C(root), C(systemd), C(pid1) and C(ipv6) are told in any case; the rest is told where the question asks for it.
options:
  question:
    description:
      - What is asked. It is given back as it came, so that a role can see whether it has asked just this before.
      - C(files), a list of files and directories with C(path), and of C(owner), C(group), C(mode) and C(sha256) what they
        should be; C(digest=true) where the digest is to be told; C(by), a user with whose rights to look where others
        may have put a link.
      - C(free), a list of paths.
      - C(keeps_addresses), whether to try if systemd can keep addresses from a unit (C(IPAddressDeny=)).
      - C(nginx), whether to look at Debian's nginx.
      - C(pairs), a list of C(certificate) and C(key), paths in PEM.
      - C(paths), a list of paths.
      - C(ports), a list of C(port), TCP; C(ours), units that may listen there; C(ours_if), a file without which they
        are not ours.
      - C(python_modules), a list of modules' names, of the Python that Ansible uses on the host.
      - C(texts), a list of small text files.
      - C(units), a dictionary by name of what each C(reads) (files and links), and C(at) which moment (C(start), the
        default, or C(reload), at both).
      - C(users), a list of names.
      - C(ways), a dictionary of paths that root is to write, by the variable that names each.
    type: dict
    default: {}
author: The project's maintainers
"""

EXAMPLES = r"""
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

RETURN = r"""
question:
  description: What was asked.
  type: dict
  returned: always
root:
  description: Whether the look is root's.
  type: bool
  returned: always
systemd:
  description: Whether systemd runs the host.
  type: bool
  returned: always
pid1:
  description: The name of process 1; empty on a host that does not show it.
  type: str
  returned: always
ipv6:
  description: Whether the host has IPv6.
  type: bool
  returned: always
absent:
  description: Of C(files), the paths where nothing is.
  type: list
  returned: if files are asked for
amiss:
  description: Of C(files), the paths of those that are not as they should be, the absent ones included.
  type: list
  returned: if files are asked for
digests:
  description: Of C(files) with C(digest), the sha256 of each by its path; empty of one that is not as it should be.
  type: dict
  returned: if files are asked for
free_mb:
  description: By path, the room in MB in the nearest directory above it that there is.
  type: dict
  returned: if C(free) is asked for
keeps_addresses:
  description: Whether systemd can keep addresses from a unit; true where that was not to be tried.
  type: bool
  returned: if C(keeps_addresses) is asked for
listeners:
  description: By port as text, who listens on it - empty (nobody), C(ours), or such as C(process 812 (docker-proxy)).
  type: dict
  returned: if C(ports) are asked for
nginx:
  description: C(version) (empty, not installed), C(welcome_page) (Debian's is served) and C(includes), of the sites of conf.d.
  type: dict
  returned: if C(nginx) is asked for
pairs:
  description: By the certificate's path, whether it and its key can be read and belong together.
  type: dict
  returned: if C(pairs) are asked for
paths:
  description: By path, its C(kind) (absent, directory, file or other) and where the C(link) there leads, empty for none.
  type: dict
  returned: if C(paths) are asked for
python_modules:
  description: By name, whether the module is there.
  type: dict
  returned: if C(python_modules) are asked for
taken:
  description: Of C(listeners), those that are neither nobody nor ours.
  type: dict
  returned: if C(ports) are asked for
texts:
  description: By path, what a file says, without space at its ends; empty where there is none.
  type: dict
  returned: if C(texts) are asked for
units:
  description: >-
    By name, the C(state) that systemd tells; whether the unit is C(active), C(enabled), both (C(runs)); whether its own
    files were changed since systemd read them (C(unit_changed)), and what it reads since it did (C(unread)).
  type: dict
  returned: if C(units) are asked for
users:
  description: By name, whether the user C(exists), and is a C(person), root included, and no system user.
  type: dict
  returned: if C(users) are asked for
ways:
  description: >-
    Of C(ways), those that root must not write, by variable - the C(place) on the way, C(by) whom it can be changed, and
    C(why), a sentence that says what to do.
  type: dict
  returned: if C(ways) are asked for
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import host


def main() -> None:
    """Answer the question."""
    module = AnsibleModule({"question": {"type": "dict", "default": {}}}, supports_check_mode=True)
    question = module.params["question"]
    try:
        found = host.look(question)
    except host.UnknownQuestion as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, question=question, **found)


if __name__ == "__main__":
    main()
