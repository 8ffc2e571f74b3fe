"""ALICE's central services as a program: their wire protocol, a task queue, job-agent tokens; `python -m` runs it."""
