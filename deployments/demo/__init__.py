"""The demo: a sample stack is backed up, destroyed, restored and compared, by the same flows that a user runs.

Rules upheld in this package:
- What is compared after the restore was recorded by the demo itself, before the destruction, not by the backup.
- Names are random: demos that run at the same time do not meet. Only what carries this demo's label is destroyed.
- Everything that is started or made here ends with the demo, also after Ctrl-C, SIGTERM and kill -9; what other people
  run (an engine, a Prefect server) is never configured, restarted or asked for more than the demo's own things.
"""
