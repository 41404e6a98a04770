"""Models of a registry, each version served by a process of its own."""
