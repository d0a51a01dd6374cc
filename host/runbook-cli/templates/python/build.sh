#!/bin/sh
# `runbook plugin build` runs this. It leaves the component at build/NAME.wasm.
set -eu
PATH="$PWD/.venv/bin:$PATH" exec python3 vendor/runbook/plugins/python/sdk/project.py build
