"""A strict MonALISA as a program: receives ApMon over UDP; `python -m` runs it."""
