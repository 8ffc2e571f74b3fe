"""What stays of finished agents: summaries, the map, and what the failed ones wrote."""
