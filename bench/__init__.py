"""Measurements: how fast and how large this is, each figure against its limit.

    python -m bench [NAME...]       (make bench BENCH=NAME)

Each is a module here with a function `measure` that yields figures; one more is one more file.
Names that begin with an underscore are what they share, names with a hyphen what they compare with.
"""
