#!/bin/sh
cd "$(dirname "$0")/.." && exec python runs/tables_scenes.py table4 "$@"
