#!/bin/sh
set -eu
exec python3 ../../../plugins/python/sdk/project.py build
