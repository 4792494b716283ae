#!/bin/sh
# A wheel in, an archive out that a device is installed from: wheel, installer, unit, configurations, documents.
# usage: pack.sh WHEEL FOLDER
set -eu
wheel=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(dirname "$(dirname "$here")")
version=$(basename "$wheel" | cut -d- -f2)
name="edge-asd-device-$version"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/$name" "$work/$name/configs" "$work/$name/doc"
cp "$wheel" "$here/install.sh" "$here/edge-asd.service" "$here/edge-asd.sysusers" "$work/$name/"
cp -r "$checkout"/firmware_configs/*.yaml "$checkout"/firmware_configs/*.json "$checkout"/firmware_configs/*.md \
  "$checkout"/firmware_configs/mosquitto "$work/$name/configs/"
cp "$checkout"/docs/*.md "$work/$name/doc/"
cp "$checkout/LICENSE" "$checkout/CHANGELOG.md" "$work/$name/"
mkdir -p "$out"
tar -C "$work" --owner=0 --group=0 -czf "$out/$name.tar.gz" "$name"
echo "$out/$name.tar.gz"
