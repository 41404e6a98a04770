"""Look at Debian's PostgreSQL on a host, or have it follow its files."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import postgresql

DOCUMENTATION = r"""
module: postgresql_cluster
short_description: Looks at Debian's PostgreSQL, or has it follow its files
description:
  - With O(state=looked), says what a host has, and changes nothing.
  - With O(state=followed), writes O(texts) as the user C(postgres), whose directory it is; then
    gives the running server copies of its TLS files, a reload where a
    file is newer than what it has read, and a restart where a setting of C(conf.d/mlflow.conf)
    needs one. It compares states, so that a run that was killed is mended by the next.
  - Then it sees that the server has the settings that matter, and shows the certificate that it
    was given.
  - Users, databases and privileges are made by the modules of community.postgresql.
options:
  state:
    description: Whether to look, or to have PostgreSQL follow.
    type: str
    choices: [looked, followed]
    required: true
  port:
    description: The port, by which one of several clusters is told from the others too.
    type: int
    required: true
  clients:
    description:
      - Other hosts that connect, as names or addresses. Empty means a Unix socket alone, without
        TLS.
    type: list
    elements: str
    default: []
  owner:
    description: The role that owns the databases. Looked at with O(state=looked).
    type: str
    default: ""
  databases:
    description: The databases. Looked at with O(state=looked).
    type: list
    elements: str
    default: []
  password_file:
    description:
      - Where the owner's password is kept. Whether it is there, and root's alone, is said; its
        content is not read.
    type: str
    default: ""
  certificate:
    description: A PEM file with the certificate that clients are shown.
    type: str
    default: ""
  key:
    description: A PEM file with its key.
    type: str
    default: ""
  least_connections:
    description: How many connections PostgreSQL must accept.
    type: int
    default: 0
  files:
    description:
      - Files below the cluster's configuration whose digests are asked for, each with the mode
        that it should have.
    type: dict
    default: {}
  texts:
    description: What those of O(files) say that O(state=followed) is to write.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Says what would be done.
  diff_mode:
    support: full
author: The project's maintainers
"""

EXAMPLES = r"""
- name: Look at PostgreSQL
  ops.mlflow.postgresql_cluster:
    state: looked
    port: 5432
    owner: mlflow
    databases: [mlflow]
  register: found

- name: Have it follow its files
  ops.mlflow.postgresql_cluster:
    state: followed
    port: 5432
    clients: [server1.example.com]
    certificate: /etc/ssl/mlflow/postgresql.pem
    key: /etc/ssl/mlflow/postgresql.key
    files: {pg_hba.conf: "0640"}
    texts: {pg_hba.conf: "{{ lookup('ansible.builtin.template', 'pg_hba.conf.j2') }}"}
"""

RETURN = r"""
asked:
  description:
    - What was asked, by which a later task knows whether this is the answer to its own question.
  returned: with state=looked
  type: dict
found:
  description: What there is.
  returned: with state=looked
  type: dict
  contains:
    cluster:
      description:
        - Version and name of the cluster, and whether it runs. Empty without one.
      type: dict
    clusters: {description: All clusters of the host., type: list}
    behind: {description: Whether state=followed would do or refuse something., type: bool}
    driver: {description: Whether the host's Python can ask a database., type: bool}
    plain:
      description:
        - Whether the owner may log in and no more, without a password.
      type: bool
    missing: {description: Databases that are not there., type: list}
    open: {description: Databases that everybody may use., type: list}
    digests:
      description:
        - The sha256 of each file of O(files), empty for one with another owner or mode.
      type: dict
    drop_in:
      description:
        - The sha256 of this role's settings of the unit, empty where root alone does not own them.
      type: str
    socket:
      description:
        - The directory of the Unix socket, empty without a running server.
      type: str
    port: {description: The port that the running server has., type: int}
done:
  description: What was done, or in check mode would be.
  returned: with state=followed
  type: list
"""


def main() -> None:
    """Look, or have PostgreSQL follow."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["looked", "followed"], "required": True},
            "port": {"type": "int", "required": True},
            "clients": {"type": "list", "elements": "str", "default": []},
            "owner": {"type": "str", "default": ""},
            "databases": {"type": "list", "elements": "str", "default": []},
            "password_file": {"type": "str", "default": "", "no_log": False},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": False},
            "least_connections": {"type": "int", "default": 0},
            "files": {"type": "dict", "default": {}},
            "texts": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    given = dict(module.params)
    state = given.pop("state")
    asked = postgresql.Asked(**given)
    steps = postgresql.Steps(act=not module.check_mode)
    try:
        if state == "looked":
            module.exit_json(changed=False, asked=given, found=postgresql.look(asked))
        cluster = postgresql.chosen(postgresql.clusters(), asked.port)
        diff = postgresql.write(cluster, asked, steps) if cluster else []
        postgresql.follow(cluster, asked, steps, written=not module.check_mode)
    except postgresql.Refusal as refusal:
        before = f" Done before: {', '.join(steps.taken)}." if steps.taken else ""
        module.fail_json(
            msg=f"PostgreSQL: {refusal}\nThen run the playbook again.{before}", done=steps.taken
        )
    module.exit_json(changed=bool(steps.taken), done=steps.taken, diff=diff)


if __name__ == "__main__":
    main()
