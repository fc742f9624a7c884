#!/usr/bin/env bash
# The poster's efficiency table: on the CPU, and on a GPU where torch sees one. Arguments go to the CPU's run.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
"$PYTHON" runs/efficiency.py "$@"
if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  "$PYTHON" runs/efficiency.py --device cuda --questions 200
fi
