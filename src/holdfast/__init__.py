"""Holdfast: backups of Docker hosts that are proven by restoring them."""

__version__ = "0.1.0.dev0"
