"""`python -m runbook_sdk.inspect`: which functions the module `plugin` has, as JSON. The build asks before it makes a component."""

import json
import sys

from plugin import plugin

json.dump({"converge": sorted(plugin.converges), "verify": sorted(plugin.verifies)}, sys.stdout)
