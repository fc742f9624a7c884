#!/usr/bin/env bash
# Speed on the CPU against other engines, floors and targets: numbers/bench_cpu.md. Leave the machine alone meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" runs/bench_cpu.py "$@"
