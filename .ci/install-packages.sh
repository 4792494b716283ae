#!/bin/sh
# Debian packages by name, where this user may install them; says which are missing otherwise.
# usage: install-packages.sh PACKAGE...
set -eu
missing=""
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -eq 0 ]; then as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo -n"
else as_root="none"; fi
if [ "$as_root" = none ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "missing:$missing; expected them installed; run: sudo apt-get install$missing" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # RUNLEVEL: a broker for tests must not start as a service
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
