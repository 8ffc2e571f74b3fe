"""NERSC's Superfacility API v1.2 in front of a real Slurm or of a model of one.

Start it with `python -m tests.world.superfacility`; `--help` says how.
"""
