"""The plugin without a host: a fake world answers, as smartctl would."""

import json
import unittest

from plugin import plugin, with_disk
from runbook_sdk import Conflict, Failed
from runbook_sdk.fake import World

LOOK = ["smartctl", "--json", "--xall", "/dev/sda"]
TEST = ["smartctl", "--test=long", "/dev/sda"]


def disk(passed=True, tested=None, status=0, reallocated=0):
    """What smartctl says of a disk that was on for 70,000 hours."""
    test = {"type": {"value": 2}, "status": {"passed": True}, "lifetime_hours": tested}
    return json.dumps(
        {
            "model_name": "WDC WD40EFRX",
            "serial_number": "WD-1",
            "smart_status": {"passed": passed},
            "power_on_time": {"hours": 70_000},
            "ata_smart_data": {"self_test": {"status": {"value": status}}},
            "ata_smart_self_test_log": {"extended": {"table": [] if tested is None else [test]}},
            "ata_smart_attributes": {"table": [{"id": 5, "raw": {"value": reallocated}}]},
        }
    )


class Tested(unittest.TestCase):
    def setUp(self):
        self.world = World()
        self.node = self.world.machine("nas")
        self.node.runs(TEST, then=lambda: self.node.answers(LOOK, disk(status=0xF9)))

    def apply(self, stdout, code=0, **inputs):
        self.node.answers(LOOK, stdout, code)
        return self.world.apply(plugin, "tested", {"device": "/dev/sda"} | inputs)

    def test_starts_a_test_once(self):
        first = self.apply(disk())
        self.assertEqual(first.changes, ["start a long self-test of /dev/sda"])
        self.assertEqual(first.outputs, {"model": "WDC WD40EFRX", "serial": "WD-1", "hours": 70_000})
        self.assertEqual(self.world.apply(plugin, "tested", {"device": "/dev/sda"}).changes, [])

    def test_a_plan_changes_nothing(self):
        self.node.answers(LOOK, disk())
        for _ in range(2):
            self.assertEqual(len(self.world.plan(plugin, "tested", {"device": "/dev/sda"}).changes), 1)

    def test_the_age_counts_and_its_hours_have_16_bits(self):
        ago = lambda hours: disk(tested=(70_000 - hours) % 65_536)
        self.assertEqual(self.apply(ago(100)).changes, [])
        self.assertEqual(len(self.apply(ago(100), max_age_hours=99).changes), 1)

    def test_a_dying_disk_is_refused(self):
        for stdout, error in ((disk(passed=False), Conflict), (disk(reallocated=8), Failed)):
            with self.assertRaises(error):
                self.apply(stdout)
        self.assertEqual(self.apply(disk(tested=4_400, reallocated=8), max_reallocated=8).changes, [])

    def test_an_exit_code_about_the_disk_is_no_failure(self):
        self.assertEqual(self.apply(disk(tested=4_400), code=0b1000000).changes, [])
        said = json.dumps({"smartctl": {"messages": [{"string": "/dev/sda: No such device"}]}})
        with self.assertRaisesRegex(Failed, "nas cannot be asked: /dev/sda: No such device"):
            self.apply(said, code=2)


class Watched(unittest.TestCase):
    def test_the_line_stands_before_devicescan_and_only_once(self):
        text = with_disk("# mine\nDEVICESCAN\n", "/dev/sda", "/dev/sda -a")
        self.assertEqual(text, "# mine\n/dev/sda -a\nDEVICESCAN\n")
        self.assertEqual(with_disk(text, "/dev/sda", "/dev/sda -H"), "# mine\n/dev/sda -H\nDEVICESCAN\n")
        self.assertEqual(with_disk("", "/dev/sda", "/dev/sda -a"), "/dev/sda -a\n")

    def test_smartd_is_restarted_only_after_a_change(self):
        world = World()
        node = world.machine("nas")
        node.runs(["systemctl", "restart", "smartd"])
        first, second = (world.apply(plugin, "watched", {"device": "/dev/sda"}) for _ in range(2))
        self.assertEqual(first.changes, ["let smartd watch /dev/sda", "restart smartd"])
        self.assertEqual(second.changes, [])

    def test_a_smartd_that_died_is_noticed(self):
        world = World()
        node = world.machine("nas")
        for state, wrong in (("active", 0), ("failed", 1)):
            node.answers(["systemctl", "is-active", "smartd"], state + "\n", code=0 if state == "active" else 3)
            self.assertEqual(len(world.verify(plugin, "watched", {"device": "/dev/sda"})), wrong)


if __name__ == "__main__":
    unittest.main()
