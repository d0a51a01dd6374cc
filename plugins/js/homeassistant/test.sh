#!/bin/sh
# `runbook plugin test` runs this: the unit tests.
set -eu
exec node ../sdk/project.js test
