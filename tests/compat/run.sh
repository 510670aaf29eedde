#!/bin/bash
# Compare with a real TransformerLens 2, in an environment of its own:
#   tests/compat/run.sh ENVIRONMENT          compare what this book exports
#   tests/compat/run.sh ENVIRONMENT write    and write tests/compat/fixtures anew
# Minutes and 2 GB the first time. torch comes first and alone, so that nothing else can choose another one.
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${1:?name a folder for the environment}
if [ ! -x "$environment/bin/python" ]; then
  python3 -m venv "$environment"
  install=("$environment/bin/pip" install --quiet --disable-pip-version-check)
  "${install[@]}" "torch==2.13.0"
  "${install[@]}" "transformer_lens>=2.15,<3" "torch==2.13.0" "datasets<4" "pyarrow<20"
fi
if [ "${2:-}" = write ]; then
  "$environment/bin/python" tests/compat/with_transformer_lens_2.py write tests/compat/fixtures
fi
ADDLIB_TRANSFORMER_LENS_2="$environment/bin/python" .venv/bin/python -m pytest tests/compat
