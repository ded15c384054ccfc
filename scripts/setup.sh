# Shared by demo.sh and test.sh, which source it: finds a Python and makes a virtual environment.
# Works from any folder; everything happens in the root of the repository.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Packages are installed without byte code, which halves the time; the first import writes what it needs, so it must be
# allowed to, or every process would compile again.
unset PYTHONDONTWRITEBYTECODE

# find_python: prints the command of a Python >= 3.11 that can make environments; the newest tested version comes first.
# PYTHON=... names one and is taken as it is.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  if [ -n "${PYTHON:-}" ]; then
    echo "PYTHON=$PYTHON is not a Python >= 3.11 with the modules venv and ensurepip: name another, or unset PYTHON." >&2
  else
    echo "No Python >= 3.11 with the modules venv and ensurepip was found: install one (Debian: python3 python3-venv)," \
      "or name one with PYTHON=/path/to/python3." >&2
  fi
  return 2
}

# make_environment FOLDER EXTRAS: an environment with this package (editable) and its extras at the tested versions.
# An environment that was finished for the same Python, pyproject.toml and constraints.txt is used again as it is.
make_environment() {
  local folder=$1 extras=$2 python wanted
  python=$(find_python) || return
  wanted=$("$python" - "$extras" <<'PY'
import hashlib, pathlib, sys
files = b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
print(hashlib.sha256(files + repr((sys.version, sys.argv[1:], str(pathlib.Path.cwd()))).encode()).hexdigest())
PY
  ) || return
  if [ "$(cat "$folder/made-for" 2>/dev/null)" = "$wanted" ]; then return; fi
  echo "Installing into $folder with $("$python" --version) (once; a minute or so) ..." >&2
  "$python" -m venv --clear "$folder" &&
    "$folder/bin/python" -m pip install -qq --disable-pip-version-check --no-compile --prefer-binary \
      -c constraints.txt -e ".[$extras]" &&
    printf '%s\n' "$wanted" >"$folder/made-for"
}
