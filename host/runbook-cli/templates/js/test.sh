#!/bin/sh
# `runbook plugin test` runs this: the unit tests.
set -eu
exec node vendor/runbook/plugins/js/sdk/project.js test
