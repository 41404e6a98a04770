"""Variables that roles had once. Ansible passes over a variable that nobody reads in silence."""

from __future__ import annotations

RECORD = "it is taken from the record of what is installed, /etc/mlflow/installation.json"
TOOLS = "programs are in /usr/local/lib/mlflow on every host"

# What each is now: the end of a sentence. One that has only another name: its new name.
GONE = {
    "mlflow_backup_environment": f"{RECORD}; mlflow_root says where environments are",
    "mlflow_backup_library": TOOLS,
    "mlflow_backup_user": f"{RECORD}; mlflow_server_user sets it",
    "mlflow_cleaning_directories": RECORD,
    "mlflow_cleaning_environment": f"{RECORD}; mlflow_root says where environments are",
    "mlflow_cleaning_library": TOOLS,
    "mlflow_cleaning_settings": f"{RECORD}; mlflow_server_config_dir sets it",
    "mlflow_cleaning_state_dir": f"{RECORD}; mlflow_server_state_dir sets it",
    "mlflow_cleaning_user": f"{RECORD}; mlflow_server_user sets it",
    "mlflow_client_no_log": "what is secret is never logged",
    "mlflow_doctor_backup_status": RECORD,
    "mlflow_doctor_library": TOOLS,
    "mlflow_doctor_s3_program": "the doctor brings it",
    "mlflow_doctor_settings": f"{RECORD}, if mlflow_doctor_server is true",
    "mlflow_doctor_unit": RECORD,
    "mlflow_doctor_user": RECORD,
    "mlflow_model_serving_no_log": "what is secret is never logged",
    "mlflow_model_serving_user": "each model has a user of its own, whom systemd makes",
    "mlflow_monitoring_backup_status": RECORD,
    "mlflow_monitoring_env_file": f"{RECORD}; mlflow_server_config_dir sets it",
    "mlflow_monitoring_environment": RECORD,
    "mlflow_monitoring_library": TOOLS,
    "mlflow_monitoring_user": f"{RECORD}; mlflow_server_user sets it",
    "mlflow_users_no_log": "what is secret is never logged",
    "s3_bucket_no_log": "what is secret is never logged",
    "mlflow_switch_library": TOOLS,
    "mlflow_switch_link": f"{RECORD}; mlflow_root says where environments are",
    "mlflow_switch_settings": f"{RECORD}; mlflow_server_config_dir sets it",
    "mlflow_switch_unit": RECORD,
    "mlflow_switch_user": f"{RECORD}; mlflow_server_user sets it",
    "smoke_admin_password_file": f"{RECORD}; mlflow_server_config_dir sets it",
    "smoke_admin_user": f"{RECORD}; mlflow_server_auth_admin_user sets it",
    "smoke_server_python": f"{RECORD}; mlflow_root says where environments are",
    "smoke_server_settings": f"{RECORD}; mlflow_server_config_dir sets it",
    "smoke_server_state_dir": f"{RECORD}; mlflow_server_state_dir sets it",
    "smoke_server_user": f"{RECORD}; mlflow_server_user sets it",
}


def refusals(names: object) -> list[str]:
    """Return a sentence for each variable that is set and that nobody reads any more.

    Args:
        names: of all variables that there are; anything that `in` can be asked.
    """
    found = [name for name in GONE if name in names]  # type: ignore[operator]
    return [
        f"{name} is set, and no role reads it any more: "
        + (f"it is called {GONE[name]} now." if GONE[name].isidentifier() else f"{GONE[name]}.")
        for name in found
    ]
