"""Backups of what the tracking server keeps, and drills of them."""
