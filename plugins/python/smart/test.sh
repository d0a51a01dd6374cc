#!/bin/sh
# `runbook plugin test` runs this: the unit tests.
set -eu
PATH="$PWD/.venv/bin:$PATH" exec python3 ../sdk/project.py test
