"""The use cases in plain Python: backup, restore, verify, drill, forget, prune, status."""
