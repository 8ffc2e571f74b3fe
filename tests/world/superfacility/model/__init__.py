"""A simple Slurm in this process: the commands' own words, local processes as batch jobs."""
