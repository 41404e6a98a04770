"""Documentation of an action: it runs on the controller (plugins/action/smoke.py)."""

DOCUMENTATION = """
module: smoke
short_description: Prove an MLflow installation by using it
description:
  - Packs the program C(smoke/) of this collection on the controller, sends it to the host as
    standard input, and runs it there, in one trip. Nothing of it stays.
  - In scenarios 2 and 3 it must be root (become), and starts each part of the program with systemd,
    as the account that the part needs. Where the server has its settings, its account and its data
    is taken from C(/etc/mlflow/installation.json) on the host.
  - What it finds wrong fails no task. See RV(passed).
attributes:
  check_mode: {support: none}
  diff_mode: {support: none}
options:
  scenario:
    description: The scenario whose proofs are run.
    type: str
    required: true
    choices: [scenario1, scenario2, scenario3]
  part:
    description:
      - Of V(scenario3), the part that is run. V(access) reads how people log in at the server.
        C(mlflow_smoke scenario3 --help) describes the others.
    type: str
    choices: ['', access, begin, log, see, look, end]
    default: ''
  python:
    description:
      - The interpreter of the environment that has MLflow. The parts V(access) and V(look) of
        V(scenario3) take the server's own.
    type: str
    default: ''
  addresses:
    description: Of V(scenario3), the addresses that a part reaches, and no other.
    type: list
    elements: str
    default: []
  arguments:
    description: Arguments of the scenario, such as C(--project).
    type: list
    elements: str
    default: []
  keep:
    description: Whether to leave what it makes, to be looked at.
    type: bool
    default: false
  told:
    description:
      - What the part is told by those before it, RV(handed_on) of each. Of the passwords in it, the
        part gets no more than it needs.
    type: list
    elements: dict
    default: []
author: The project's maintainers
"""

EXAMPLES = """
- name: Train, log and load back
  ops.mlflow.smoke:
    scenario: scenario2
    python: /opt/mlflow/current/bin/python
    arguments: [--tracking-uri, 'http://localhost:5000', --database, /var/lib/mlflow/mlflow.db,
                --artifacts, /var/lib/mlflow/artifacts_local]
  become: true
  register: proof

- name: Say what was proved
  ansible.builtin.assert:
    that: proof.passed
    fail_msg: "{{ proof.lines | join('\\n') }}"
"""

RETURN = """
passed:
  description: Whether all was as it should be.
  returned: always
  type: bool
report:
  description: The program's whole document; an empty one where it could not start.
  returned: always
  type: dict
lines:
  description: What it said for people; where it could not start, why.
  returned: always
  type: list
  elements: str
handed_on:
  description:
    - What later parts are told of this one. The report, or, where there is none, that it is lost
      and why.
  returned: always
  type: dict
"""
