"""The tracking server: start, guard, databases, secrets."""
