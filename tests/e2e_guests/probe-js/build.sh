#!/bin/sh
# Its packages are those of the example, which npm has checked.
set -eu
[ -d node_modules ] || cp -R ../../../plugins/js/homeassistant/node_modules .
exec node ../../../plugins/js/sdk/project.js build
