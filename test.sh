#!/bin/sh
# Check and test Futu: ./test.sh [pytest options].
# ./test.sh --security: bandit over the sources, and pip-audit over all pinned packages, which
# asks the package index about known vulnerabilities and fails where it cannot.
# Makes the environment .venv first where it is missing, out of date or without the tools.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")"
. ./scripts/environment.sh

make_environment .venv dev
if [ "${1:-}" = --security ]; then
    .venv/bin/python -m bandit -q -r src run.py service_manager.py -c pyproject.toml \
        --severity-level medium --confidence-level medium
    exec .venv/bin/python -m pip_audit -r constraints.txt --no-deps --disable-pip --strict \
        --progress-spinner off
fi
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
.venv/bin/python -m mypy
exec .venv/bin/python -m pytest "$@"
