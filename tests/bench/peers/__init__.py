"""Other systems that submit pilots, driven by their own documented interfaces, each in an environment of its own.

The hashed locks are made by `uv pip compile --generate-hashes --python-version 3.11` of psij-python==0.9.11 and of
cobald-tardis==0.9.0.
"""
