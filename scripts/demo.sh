#!/usr/bin/env bash
# The main job on this machine, installation included: simulates a log with planted half-lives, trains, evaluates,
# recommends and draws. With a log of your own it does the same with that; options of `jaxdecay prepare` may follow.
#   bash scripts/demo.sh
#   bash scripts/demo.sh plays.csv --columns.user listener --clock relative
# PYTHON=/path/to/python3.11 chooses the Python.
set -euo pipefail
from=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

make_environment .venv plots
export JAXDECAY_DEMO_INSTALLED_IN=$SECONDS
root=$PWD
cd "$from" # so that the path of a log means what it meant to whoever typed it
exec "$root/.venv/bin/python" "$root/scripts/demo.py" "$@"
