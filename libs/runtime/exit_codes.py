"""Exit codes that tell an orchestrator, or a person's script, what kind of failure it was.

0 done, or stopped as asked; 64 wrong command line; 69 something needed could not be reached; 77 refused by the other
side; 78 the configuration is wrong; 1 a bug.
"""

from libs.runtime.errors import Malformed, Misconfigured, NacreError, Refused, Transient

EXIT_USAGE = 64
EXIT_UNREACHABLE = 69
EXIT_REFUSED = 77
EXIT_MISCONFIGURED = 78


def exit_code(error: NacreError) -> int:
    """The exit code for an error of the tree."""
    if isinstance(error, Misconfigured):
        return EXIT_MISCONFIGURED
    if isinstance(error, Refused | Malformed):
        return EXIT_REFUSED
    if isinstance(error, Transient):
        return EXIT_UNREACHABLE
    return 1
