#!/bin/sh
# Installs pebble, a real ACME server for tests, when root on Debian; elsewhere says once what is then skipped.
set -eu
command -v pebble >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends pebble ||
    echo "pebble could not be installed: the tests of ACME will be skipped." >&2
else
  echo "No ACME server here (pebble; not root on Debian): the tests of ACME will be skipped." >&2
fi
