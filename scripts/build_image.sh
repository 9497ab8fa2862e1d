#!/usr/bin/env bash
# Build the image from bases by digest, and write down what it was built from, and the digests of the images that
# docker-compose.yml names:
#   scripts/build_image.sh TAG FILE [ARGUMENT OF docker build ...]
# With --push among the arguments the pushed image is written down, too, and its digest is an output of CI's step.
# Digests are looked up at the registry now, so the same tag may give others tomorrow; FILE says which they were.
set -euo pipefail
tag=$1
file=$(realpath "$2")
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

by_digest() {
  local digest
  digest=$(docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}')
  [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "$1 has no digest: $digest" >&2; return 1; }
  echo "$1@$digest"
}

default() { sed -n "s/^ARG $1=//p" Dockerfile; }

builder=$(by_digest "$(default BUILDER_IMAGE)")
base=$(by_digest "$(default BASE_IMAGE)")
docker build --tag "$tag" --build-arg "BUILDER_IMAGE=$builder" --build-arg "BASE_IMAGE=$base" "$@" .
{
  echo "$builder"
  echo "$base"
  sed -n 's/^ *image: *\(.*\/.*\)$/\1/p' docker-compose.yml | while read -r image; do
    by_digest "$image"
  done
  case " $* " in
    *" --push "*) by_digest "$tag" ;;
  esac
} >"$file"
if [[ " $* " == *" --push "* ]]; then
  sed -n '$s/^.*@/digest=/p' "$file" >>"${GITHUB_OUTPUT:-/dev/null}"
fi
