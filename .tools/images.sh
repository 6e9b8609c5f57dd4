#!/usr/bin/env bash
# Builds the images. Usage: images.sh VERSION [SERVICE...]
# Uses docker where its engine runs, else buildah. Where no image registry can
# be reached, a base image is made of the machine's own Debian mirror and Go.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
shift
services=("$@")
[ ${#services[@]} -gt 0 ] || services=(gateway session-orchestrator webhook-ingest connector axp-sandbox)
go_version=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.work)
base="docker.io/library/golang:$go_version-bookworm"

local_base() {
  buildah inspect --type image "$base" >/dev/null 2>&1 && return
  timeout 60 buildah pull -q "$base" >/dev/null 2>&1 && return
  echo "images: no registry, making $base from this machine"
  command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
  local root mirror
  root=$(mktemp -d)
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] *\)\?\([^ ]*\).*/\2/p' | head -n 1 || true)
  debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" >/dev/null
  # The authorities that this machine trusts, so that the build can reach what it reaches.
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  mkdir -p "$root/usr/local"
  cp -a "$(go env GOROOT)" "$root/usr/local/go"
  local c
  c=$(buildah from scratch)
  buildah add -q "$c" "$root" / >/dev/null
  buildah config --env PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin --env GOTOOLCHAIN=local "$c"
  buildah commit -q "$c" "$base" >/dev/null
  buildah rm "$c" >/dev/null
  rm -rf "$root"
}

for s in "${services[@]}"; do
  if docker info >/dev/null 2>&1; then
    docker build -f deploy/docker/Dockerfile --build-arg SERVICE="$s" --build-arg VERSION="$version" -t "axp-chat-connector/$s:$version" .
  else
    local_base
    buildah bud -q --pull-never --network host --isolation chroot -f deploy/docker/Dockerfile \
      --build-arg SERVICE="$s" --build-arg VERSION="$version" -t "axp-chat-connector/$s:$version" .
  fi
  echo "images: axp-chat-connector/$s:$version"
done
