"""The tracker's rules: tables and functions without clock, network, disk or log."""
