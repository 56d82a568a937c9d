#!/bin/sh
# Check and test Futu: ./test.sh [pytest options].
# Makes the environment .venv first where it is missing, out of date or without the tools.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
. ./scripts/environment.sh

make_environment .venv dev
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
.venv/bin/python -m mypy
exec .venv/bin/python -m pytest "$@"
