"""Proves an MLflow installation by doing on it what a data scientist does, and reading it all back."""
