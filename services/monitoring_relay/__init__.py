"""monitoring_relay: ApMon in on UDP 8884, out to MonALISA. See README.md."""
