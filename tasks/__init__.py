"""Prefect tasks: one service call each; small values in and out, no logic."""
