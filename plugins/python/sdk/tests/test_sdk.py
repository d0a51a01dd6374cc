"""The SDK by itself: what it makes of answers, and of mistakes."""

import json
import unittest
from unittest import mock

from componentize_py_types import Err
from runbook_sdk import Conflict, Failed, Machine, NotFound, Unknown, if_found, if_known
from runbook_sdk.commands import Outcome, Output
from runbook_sdk.errors import call, settled
from runbook_sdk.fake import World
from runbook_sdk.plugin import Plugin, export
from runbook_sdk.text import to_wit
from wit_world.imports import types


def answer(error):
    """A call that is answered so."""

    def refused():
        raise Err(error)

    return lambda: call(refused)


unknown = answer(types.CallError_Unknown("step 1 writes it"))


class Errors(unittest.TestCase):
    def test_a_swallowed_unknown_ends_the_action(self):
        def swallowed():
            try:
                unknown()
            except Exception:
                return "misled"

        def misled():
            try:
                unknown()
            except Exception:
                raise Failed("there is no such file")

        for action in (swallowed, misled):
            with self.assertRaisesRegex(Unknown, "step 1 writes it"):
                settled(action)
        self.assertEqual(settled(lambda: 1), 1, "the next call begins afresh")

    def test_an_unknown_can_be_set_aside_on_purpose(self):
        self.assertIsNone(settled(lambda: if_known(unknown)))

    def test_only_not_found_is_not_found(self):
        self.assertIsNone(if_found(answer(types.CallError_NotFound("/a"))))
        with self.assertRaises(Conflict):
            if_found(answer(types.CallError_Conflict("somebody else's")))


class Answers(unittest.TestCase):
    def test_a_failed_command_says_what_and_why(self):
        with self.assertRaisesRegex(Failed, "^ls on n: exit code 2: no such file$"):
            Output("ls on n", 2, None, b"", b"no such file\n").ok()
        with self.assertRaisesRegex(Failed, "ended by SIGKILL"):
            Output("ls on n", None, "KILL", b"", b"").ok()
        with self.assertRaisesRegex(Failed, "ls on n did not print JSON"):
            Output("ls on n", 0, None, b"{", b"").json()

    def test_a_plan_has_no_output(self):
        with self.assertRaises(Unknown):
            Outcome("planned").output()
        self.assertTrue(Outcome("planned").changed and not Outcome("already").changed)

    def test_secrets_stay_references(self):
        parts = to_wit(["Bearer ", {"$text": ["a", {"$secret": "token"}, ""]}])
        plain, secret = types.TextPart_Plain, types.TextPart_Secret
        self.assertEqual(parts, [plain("Bearer "), plain("a"), secret("token")])


class Fake(unittest.TestCase):
    def setUp(self):
        self.world = World()
        self.node = self.world.machine("n")

    def run_in(self, verb, function):
        plugin = Plugin()
        plugin.converge("a")(lambda _: function(Machine.target("host")))
        with mock.patch("runbook_sdk.fake._complete", lambda action, inputs: inputs):
            return verb(plugin, "a", {})

    def test_what_was_not_said_fails_by_name(self):
        for function, words in (
            (lambda machine: machine.cmd(["ls"]).observe(), r"n: nobody said .*answers\(\['ls'\]"),
            (lambda machine: machine.http("http://x/"), r"serves\(\['GET', 'http://x/'\]"),
            (lambda machine: machine.facts(), "has no `facts`"),
        ):
            with self.assertRaisesRegex(AssertionError, words):
                self.run_in(self.world.apply, function)

    def test_requests_change_the_world_and_fail_from_status_400(self):
        self.node.serves("GET", "http://x/", "off")
        self.node.serves("POST", "http://x/", then=lambda: self.node.serves("GET", "http://x/", "on"))

        def switch(machine):
            machine.http_change("switch it on", "http://x/")
            return {"is": machine.http("http://x/").body.decode()}

        self.assertEqual(self.run_in(self.world.plan, switch).outputs, {"is": "off"})
        self.assertEqual(self.run_in(self.world.apply, switch).outputs, {"is": "on"})
        self.node.serves("POST", "http://x/", status=500)
        with self.assertRaisesRegex(Failed, "POST http://x/ from n: exit code 1: HTTP status 500"):
            self.run_in(self.world.apply, switch)

    def test_what_a_planned_change_may_alter_is_unknown(self):
        self.node.runs(["touch"])
        self.node.answers(["cat"], "x")

        def touch(reads, alters):
            def function(machine):
                machine.cmd(["touch"]).change("touch it", alters=alters)
                machine.cmd(["cat"], reads=reads).observe()

            return function

        for reads, alters in (([], ["a"]), (["a"], []), (["a"], ["a", "b"])):
            with self.assertRaises(Unknown):
                self.run_in(self.world.plan, touch(reads, alters))
            self.run_in(self.world.apply, touch(reads, alters))
        self.run_in(self.world.plan, touch(["a"], ["b"]))


class Exports(unittest.TestCase):
    def converge(self, function):
        plugin = Plugin()
        plugin.converge("a")(function)
        return export(plugin, "{}")().converge("a", '{"n": 21}')

    def test_inputs_and_outputs_are_json(self):
        self.assertEqual(json.loads(self.converge(lambda inputs: {"n": inputs["n"] * 2})), {"n": 42})
        self.assertEqual(self.converge(lambda _: None), "{}")

    def test_errors_keep_their_kind_and_mistakes_say_where(self):
        def missing(inputs):
            raise NotFound("/a")

        def lazy(inputs):
            import nowhere

        for function, kind, words in (
            (lazy, types.CallError_Failed, "import it at the top of plugin.py"),
            (missing, types.CallError_NotFound, "/a"),
            (lambda inputs: inputs["m"], types.CallError_Failed, "KeyError: 'm' (test_sdk.py, line "),
        ):
            with self.assertRaises(Err) as raised:
                self.converge(function)
            self.assertIsInstance(raised.exception.value, kind)
            self.assertIn(words, raised.exception.value.value)


if __name__ == "__main__":
    unittest.main()
