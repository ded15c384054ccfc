#!/usr/bin/env bash
# Lint, types, notebooks and tests in an environment of their own (.venv-test). Arguments go to pytest:
#   bash scripts/test.sh                        everything
#   bash scripts/test.sh tests/test_package.py  these tests alone
# PYTHON=/path/to/python3.11 chooses the Python (one environment each), WORKERS=1 the number of processes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

environment=.venv-test
if [ -n "${PYTHON:-}" ]; then
  python=$(find_python)
  environment=.venv-test-$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
fi
make_environment "$environment" dev
bin=$environment/bin

"$bin/ruff" check --quiet .
"$bin/ruff" format --quiet --check .
"$bin/pyrefly" check --python-interpreter-path "$bin/python" --summary=none
notebooks=()
if [ $# -eq 0 ] && compgen -G 'notebooks/*.ipynb' >/dev/null; then
  notebooks=(--nbmake tests jaxdecay notebooks)
  export JAXDECAY_NOTEBOOKS=small  # on simulated logs, also where real ones lie in ../shared
fi
exec "$bin/python" -m pytest -q -n "${WORKERS:-auto}" --dist loadfile ${notebooks[@]+"${notebooks[@]}"} "$@"
