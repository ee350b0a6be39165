"""Running it all: Prefect server, work pool, a queue and a worker per host, deployments, automations.

Rules upheld here:
- Everything may be done again at any time: what is already as it should be is left alone, so that an operator's pause
  stays a pause and scheduled runs are not made anew.
- A worker is never stopped under a flow run without being asked to in so many words: stopping a process worker kills
  its runs without any cleanup of theirs.
- Only processes that were started from here are ever signalled: number and start time are both remembered.
"""
