"""Prefect tasks: one step each, small values in and out, retries for what is transient. The logic is in `services`."""
