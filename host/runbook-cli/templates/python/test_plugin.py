"""The plugin without a host: a fake world answers."""

import unittest

from plugin import plugin
from runbook_sdk import Invalid
from runbook_sdk.fake import World

PATH = "/etc/default/greeter"


class Settings(unittest.TestCase):
    def setUp(self):
        self.world = World()
        self.node = self.world.machine("node1")
        self.node.tree.contents[PATH] = b"# Ours\nPORT=80\nNAME=a=b\n"
        self.node.runs(["systemctl", "reload", "greeter"])

    def inputs(self, **wanted):
        return {"path": PATH, "set": wanted, "reload": ["systemctl", "reload", "greeter"]}

    def test_other_lines_stay_and_the_second_time_nothing_is_done(self):
        inputs = self.inputs(PORT="8080", TZ="UTC")
        first = self.world.apply(plugin, "settings", inputs)
        self.assertEqual(first.outputs, {"changed": ["PORT", "TZ"]})
        self.assertEqual(first.changes, [f"write {PATH}", "make the new settings effective"])
        self.assertEqual(self.node.tree.contents[PATH], b"# Ours\nPORT=8080\nNAME=a=b\nTZ=UTC\n")
        self.assertEqual(self.world.apply(plugin, "settings", inputs).changes, [])

    def test_a_plan_changes_nothing(self):
        before = dict(self.node.tree.contents)
        self.assertEqual(len(self.world.plan(plugin, "settings", self.inputs(PORT="8080")).changes), 2)
        self.assertEqual(self.node.tree.contents, before)

    def test_what_somebody_else_changed_is_noticed(self):
        self.assertEqual(len(self.world.verify(plugin, "settings", self.inputs(PORT="8080", NAME="a=b"))), 1)

    def test_names_are_checked(self):
        for wanted in ({"": "x"}, {"A B": "x"}, {"A": "x\ny"}):
            with self.assertRaises(Invalid):
                self.world.apply(plugin, "settings", self.inputs(**wanted))


if __name__ == "__main__":
    unittest.main()
