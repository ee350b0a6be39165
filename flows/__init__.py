"""Prefect flows: the main jobs, one file each, imported by module (`flows.backup:backup`)."""
