#!/bin/sh
# Certificates for a site's broker and its devices (EC P-256), signed by an authority of its own that is made first.
#
#   sh make-certificates.sh FOLDER broker HOST...       makes FOLDER/broker.crt and .key; HOST is a name or an address
#   sh make-certificates.sh FOLDER device SITE DEVICE   makes FOLDER/SITE_DEVICE.crt and .key
#
# FOLDER/ca.crt goes to the broker and to each device. FOLDER/ca.key makes new identities: keep it off the network.
set -eu
umask 077
days_ca=7300
days=3650

if [ $# -lt 3 ]; then
  sed -n 's/^# \{0,1\}//; 2,7p' "$0" >&2
  exit 2
fi
folder=$1
kind=$2
shift 2

make_key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

# sign NAME COMMON_NAME EXTENSIONS
sign() {
  make_key "$folder/$1.key"
  openssl req -new -utf8 -key "$folder/$1.key" -subj "/CN=$2" -out "$folder/$1.csr"
  printf 'basicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n%s\n' "$3" \
    > "$folder/$1.ext"
  openssl x509 -req -in "$folder/$1.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial -sha256 \
    -days "$days" -extfile "$folder/$1.ext" -out "$folder/$1.crt" 2>/dev/null
  rm "$folder/$1.csr" "$folder/$1.ext"
  chmod 644 "$folder/$1.crt"
}

mkdir -p "$folder"
if [ ! -e "$folder/ca.key" ]; then
  make_key "$folder/ca.key"
  openssl req -new -x509 -key "$folder/ca.key" -subj "/CN=edge-asd site authority" -sha256 -days "$days_ca" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$folder/ca.crt"
  chmod 644 "$folder/ca.crt"
fi

case $kind in
  broker)
    names=
    for host in "$@"; do
      case $host in
        *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$host" ;;
        *) names="$names,DNS:$host" ;;
      esac
    done
    sign broker "$1" "keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=${names#,}"
    ;;
  device)
    site=$1
    device=${2:?DEVICE is missing}
    case "$site$device" in
      *[/+#*]*) echo "$site, $device: names without / + # * are expected" >&2; exit 2 ;;
    esac
    sign "${site}_$device" "$site\\/$device" "keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth"
    ;;
  *)
    echo "$kind: broker or device is expected" >&2
    exit 2
    ;;
esac
