#!/bin/sh
# A command in the guest, in a CI that keeps one folder from run to run. docs/ci.md tells more.
#
#   ci-guest.sh [--machine NAME] [--node VERSION] FOLDER [OPTION]... [COMMAND [ARGUMENT]...]
#
# FOLDER has, or gets, the archive of what the machine needs. The CI keeps it under the key that
# `node-optee qemu --cache-key` prints. OPTIONs and COMMAND are those of `node-optee qemu`; without them the machine is
# made ready, and nothing is run. The status is that of `node-optee qemu`.
set -eu

machine=dynamic
node=24
while [ $# -gt 0 ]; do
  case $1 in
    --machine | --node)
      if [ $# -lt 2 ]; then
        echo "ci-guest.sh: $1 needs a value" >&2
        exit 2
      fi
      if [ "$1" = --machine ]; then machine=$2; else node=$2; fi
      shift 2
      ;;
    *) break ;;
  esac
done
if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
  echo 'Usage: ci-guest.sh [--machine NAME] [--node VERSION] FOLDER [OPTION]... [COMMAND [ARGUMENT]...]' >&2
  exit 2
fi
folder=$1
shift

optee() {
  npx --no-install node-optee qemu --machine "$machine" --node "$node" "$@"
}

# All that a run needs of the host. A build installs it by itself.
install_qemu() {
  command -v qemu-system-aarch64 >/dev/null && return
  sudo=
  if [ "$(id -u)" -ne 0 ]; then sudo=sudo; fi
  $sudo apt-get update -q >&2
  $sudo apt-get install -y -q --no-install-recommends qemu-system-arm >&2
}

archive=$folder/$(optee --cache-key).tar.zst
mkdir -p "$folder"
# Another version's archives are of no use any more.
for other in "$folder"/node-optee-*.tar.zst; do
  if [ "$other" != "$archive" ]; then rm -f "$other"; fi
done
if [ -e "$archive" ] && optee --import "$archive" >&2; then
  install_qemu
else
  optee --install --export "$archive" >&2
fi
if [ $# -gt 0 ]; then optee "$@"; fi
