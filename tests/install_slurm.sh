#!/bin/sh
# Installs a real Slurm with accounting when root on Debian; elsewhere says once what is then skipped.
set -eu
packages="munge slurmctld slurmd slurm-client slurmdbd mariadb-server"
missing=
for program in munged slurmctld slurmd sbatch slurmdbd mariadbd; do
  command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  # The packages must not start services of their own: the tests start Slurm by hand on ports of their own.
  policy=/usr/sbin/policy-rc.d
  made=
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod 755 "$policy"; made=yes; fi
  apt-get update -q
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages || echo "Slurm could not be installed: its tests will be skipped." >&2
  [ -z "$made" ] || rm -f "$policy"
else
  echo "No real Slurm here (missing:$missing; not root on Debian): its tests will be skipped, the demo uses the model." >&2
fi
