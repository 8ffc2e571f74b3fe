"""An authority that issues certificates: good ones, and each kind of bad one."""
