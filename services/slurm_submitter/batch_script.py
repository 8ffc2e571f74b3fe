"""The batch script of one submission. Pure: text out of the site file and the submission's record.

#SBATCH lines stand in column 0 (https://github.com/NERSC/sfapi_client/issues/74). The script holds no secret: the
job-agent token is read from a file that cert_renewer keeps fresh.
"""

import shlex

from libs.events.messages import Submission
from libs.runtime.site import Ce, Site

VOID_EXIT_CODE = 85
NO_TOKEN_EXIT_CODE = 87

# A POST can be executed late, when another submission already stands in for this one. Slurm's own submit time tells.
# A requeued job was checked when it first ran. A submit time that cannot be learnt is no reason to run twice.
_VOID_CHECK = """\
if [ "${{SLURM_RESTART_COUNT:-0}}" -eq 0 ] && [ "$(date +%s)" -gt {void_after} ]; then
  submitted=
  for pause in 1 2 4 8; do
    submitted=$(squeue -h -j "$SLURM_JOB_ID" -o %V 2>/dev/null | head -n 1)
    [ -n "$submitted" ] && submitted=$(date -d "$submitted" +%s 2>/dev/null)
    [ -n "$submitted" ] && break
    sleep "$pause"
  done
  if [ -z "$submitted" ] || [ "$submitted" -gt {void_after} ]; then
    echo "nacre: void: submitted at ${{submitted:-an unknown instant}}, after {void_after}" >&2
    exit {void}
  fi
fi
"""

_RUN = """\
if ! [ -r {token_file} ]; then
  echo "nacre: no readable job-agent token at "{token_file} >&2
  exit {no_token}
fi
# shellcheck disable=SC1090
. {token_file}
work={directory}/"$NACRE_AGENT"
mkdir -p "$work" && cd "$work" || exit 1
trap 'cd / && rm -rf "$work"' EXIT
export HOME="$work" WORKDIR="$work" TMPDIR="$work/tmp" LOGDIR="$work/log" CACHEDIR="$work/cache"
mkdir -p "$TMPDIR" "$LOGDIR" "$CACHEDIR"
{command}
"""


def time_limit(seconds: int) -> str:
    """Slurm's D-HH:MM:SS."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{days}-{hours:02}:{minutes:02}:{seconds:02}"


def sbatch_lines(submission: Submission, ce: Ce) -> list[str]:
    """What Slurm is asked for. The name is the submission's id; the comment repeats it with what it replaces."""
    batch = ce.batch
    lines = [
        f"-J {submission.name}",
        f"--comment=nacre:name={submission.name},replaces={submission.replaces or '-'}",
        f"--array=0-{submission.agents - 1}",
        f"-A {batch.account}",
        f"-q {batch.qos}",
        f"-N {batch.nodes}",
        f"-t {time_limit(batch.time_limit_s)}",
        f"-D {batch.directory}",
        f"-o {batch.output}",
        *([f"-C {batch.constraint}"] if batch.constraint else []),
        *([f"-L {batch.licenses}"] if batch.licenses else []),
        *batch.extra_lines,
    ]
    return [f"#SBATCH {line}" for line in lines]


def environment(submission: Submission, ce: Ce, site: Site) -> dict[str, str]:
    """The agent's environment, as ALICE's own CE sets it (JAliEn ComputingElement.java)."""
    return {
        "site": site.site.name,
        "ALIEN_SITE": site.site.name,
        "CE": ce.name,
        "CEhost": ce.host,
        "TTL": str(ce.ttl_s),
        "CPUCores": str(ce.cores),
        "partition": ce.partition or ",,",
        "APMON_CONFIG": site.monitoring.public_address,
        "ALIEN_CM_AS_LDAP_PROXY": f"{ce.host}:10000",
        **ce.agent.environment,
    }


def render(submission: Submission, ce: Ce, site: Site) -> str:
    """The whole script."""
    void_after = int(submission.void_after.timestamp())
    exports = [f"export {name}={shlex.quote(text)}" for name, text in environment(submission, ce, site).items()]
    return "\n".join(
        [
            "#!/bin/bash",
            *sbatch_lines(submission, ce),
            f"# nacre: void_after={void_after}",
            "",
            _VOID_CHECK.format(void_after=void_after, void=VOID_EXIT_CODE),
            f'export NACRE_AGENT="{submission.name}.$SLURM_ARRAY_TASK_ID"',
            *exports,
            _RUN.format(
                token_file=shlex.quote(ce.agent.token_file),
                directory=shlex.quote(ce.batch.directory),
                command=ce.agent.command,
                no_token=NO_TOKEN_EXIT_CODE,
            ),
        ]
    )
