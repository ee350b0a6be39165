"""Prefect flows: the steps of each job, in order, over thin tasks."""
