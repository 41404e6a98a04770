"""Proves an MLflow installation: does on it what a data scientist does, and reads it back."""
