#!/bin/sh
# `runbook plugin build` runs this. It leaves the component at build/NAME.wasm.
set -eu
exec node ../sdk/project.js build
