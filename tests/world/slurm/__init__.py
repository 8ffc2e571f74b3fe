"""A real Slurm with accounting on one machine: `python -m tests.world.slurm --help`."""
