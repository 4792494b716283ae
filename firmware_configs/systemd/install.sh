#!/bin/sh
# Installs edge-asd on this device, or renews it: a virtual environment in /opt/edge-asd, the systemd unit, its user.
# usage: sudo ./install.sh
# In the environment, where the defaults do not fit:
#   PYTHON   the interpreter, 3.10 to 3.12 (python3)
#   EXTRAS   the CPU engine: onnxruntime or openvino, or both with a comma (onnxruntime); TensorRT is the system's own
#   WHEELS   a folder of wheels to take instead of a package index, for a device without a network
#   DESTDIR  a folder to install into, as an image of a device; nothing outside of it is touched
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root="${DESTDIR:-}"
python="${PYTHON:-python3}"
extras="${EXTRAS:-onnxruntime}"
prefix=/opt/edge-asd

[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || { echo "install.sh: must be run by root; run: sudo $0" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || {
  echo "install.sh: $python is $("$python" --version 2>&1); expected Python 3.10 to 3.12; set PYTHON" >&2
  exit 1
}

# The system's packages show through, since TensorRT comes with the system and never from an index.
[ -x "$root$prefix/bin/python" ] || "$python" -m venv --system-site-packages "$root$prefix"
"$root$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --force-reinstall --no-deps \
  "$here"/edge_asd-*.whl
"$root$prefix/bin/python" -m pip install --quiet --disable-pip-version-check \
  ${WHEELS:+--no-index --find-links "$WHEELS"} "edge-asd[$extras]"
if [ -n "$root" ]; then # programs of an image name the interpreter where it will lie
  { grep -lI "$root$prefix" "$root$prefix"/bin/* "$root$prefix/pyvenv.cfg" || true; } | while read -r file; do
    [ -L "$file" ] || sed -i "s|$root$prefix|$prefix|g" "$file"
  done
fi

install -D -m 644 "$here/edge-asd.service" "$root/usr/local/lib/systemd/system/edge-asd.service"
install -D -m 644 "$here/edge-asd.sysusers" "$root/etc/sysusers.d/edge-asd.conf"
install -d "$root$prefix/share"
cp -r "$here/configs" "$here/doc" "$root$prefix/share/"
install -d -m 750 "$root/etc/edge-asd"
install -d -m 700 "$root/etc/edge-asd/credentials"
for secret in mqtt-password mqtt-key; do # the unit names them; one that is not used stays empty
  [ -e "$root/etc/edge-asd/credentials/$secret" ] || install -m 600 /dev/null "$root/etc/edge-asd/credentials/$secret"
done

[ -z "$root" ] || exit 0
systemd-sysusers
chgrp edge-asd /etc/edge-asd
ln -sf "$prefix/bin/edge-asd" /usr/local/bin/edge-asd
systemctl daemon-reload
systemctl try-restart edge-asd
echo "installed; $prefix/share/doc/install.md says what comes next"
