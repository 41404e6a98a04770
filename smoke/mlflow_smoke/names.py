"""The names that scenarios, and the notes that they follow, have in common."""

EXPERIMENT = "my-experiment-1"
MODEL = "models"
REGISTERED_MODEL = "iris-classifier"
PARAMS = {"C": 0.1, "random_state": 42}
METRIC = "accuracy"
PICTURE = "confusion_matrix.png"
PNG = b"\x89PNG\r\n\x1a\n"
SAME = "150 of 150 predictions the same"

# Marks a run as a smoke's own, so that cleaning up finds that run and no other.
TAG = "mlflow_smoke"

# What a deleted experiment is called: it keeps its name, which would be refused to everybody.
GONE = EXPERIMENT + " of smoke {token}"

# What user B adds to the work of user A, where she may.
OF_B = "smoke-b"
