"""One contract for every way to a batch queue: jobs endpoints, command endpoint, local commands."""
