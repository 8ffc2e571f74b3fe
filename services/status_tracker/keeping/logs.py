"""Fetch what failed agents wrote, and what an operator wishes to see, into the bucket `agent_logs`."""
