#!/bin/bash
# Do the pins and the package work under other versions of Python?
#   tests/python_versions.sh FOLDER              3.12 and 3.13, as far as their interpreters are there
#   tests/python_versions.sh FOLDER 3.13 PYTHON  this version, by its interpreter
# For each: an environment of its own in FOLDER with exactly requirements.txt (2 GB, minutes), the tests of the package's
# rooms that need no browser, and one chapter's smoke run. TORCH_INDEX names where torch comes from if not from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?name a folder for the environments}

check() {
  local version=$1 python=$2 environment=$folder/python-$1
  if ! "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2> /dev/null; then
    echo "Python $version: no interpreter here, skipped"
    return
  fi
  [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
  local install=("$environment/bin/python" -m pip install --quiet --disable-pip-version-check)
  "${install[@]}" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)"
  "${install[@]}" -r requirements.txt
  export PYTHONPATH=$PWD OMP_NUM_THREADS=1 JUPYTER_PREFER_ENV_PATH=1 ADDLIB_CACHE=$environment/weights
  "$environment/bin/python" -m pytest -q tests/tasks tests/theory tests/geometry tests/models tests/analysis tests/compat \
    tests/test_stats.py tests/test_reading.py tests/test_store.py tests/test_unknown.py tests/test_upstream.py
  PATH=$environment/bin:$PATH "$environment/bin/python" -m workflow.execute 01_setup --smoke --results "$environment/results"
  echo "Python $version: passed"
}

if [ $# -ge 2 ]; then
  check "$2" "${3:-python$2}"
else
  check 3.12 python3.12
  check 3.13 python3.13
fi
