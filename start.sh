#!/bin/sh
# Start Futu: ./start.sh [mode] [options]; ./start.sh --help lists them.
# Makes the environment .venv first where it is missing or out of date.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
. ./scripts/environment.sh

make_environment .venv runtime
exec .venv/bin/python run.py "$@"
