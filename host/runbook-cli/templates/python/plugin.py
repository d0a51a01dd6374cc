"""The `{{name}}` plugin. What its actions take and ask for stands in `plugin.toml`."""

import re

from runbook_sdk import AT_STEP_END_IF_CHANGED, Invalid, Machine, Plugin, harmless

plugin = Plugin()


@plugin.converge("settings")
def settings(inputs):
    """Looks at the file, and changes what is not as it should be. Called for the plan, for the work, and once more after it."""
    path, wanted = inputs["path"], inputs["set"]
    check(wanted)
    machine = Machine.target("host")
    old = machine.files.read_text(path) or ""
    changed = different(old, wanted)
    machine.files.file(path, with_settings(old, wanted))
    if inputs["reload"]:
        machine.cmd(inputs["reload"], privileged=True).change(
            "make the new settings effective",
            undo=harmless(),  # Once more, or for nothing: it does no harm.
            timing=AT_STEP_END_IF_CHANGED,  # Also where this run breaks off in between.
        )
    return {"changed": changed}


@plugin.verify("settings")
def is_set(inputs):
    """Looks once more, after all is done: whatever reads the file may have written it anew."""
    machine = Machine.target("host")
    text = machine.files.read_text(inputs["path"]) or ""
    return [
        f"{name} in {inputs['path']} on {machine.name} is not as it should be"
        for name in different(text, inputs["set"])
    ]


def check(wanted):
    for name, value in wanted.items():
        if not re.fullmatch("[A-Za-z0-9_]+", name) or "\n" in value:
            raise Invalid(f"`set`: {name!r} is not a name of letters, digits and `_` with a value of one line")


def lines_of(text):
    return text.removesuffix("\n").split("\n") if text else []


def different(text, wanted):
    """Names of the settings that a text has otherwise, or not at all."""
    has = dict(line.split("=", 1) for line in lines_of(text) if "=" in line)
    return [name for name, value in wanted.items() if has.get(name) != value]


def with_settings(text, wanted):
    """The text with these settings, each in its old place or at the end."""
    lines = lines_of(text)
    for name, value in wanted.items():
        places = [i for i, line in enumerate(lines) if line.startswith(f"{name}=")]
        if places:
            lines[places[-1]] = f"{name}={value}"
        else:
            lines.append(f"{name}={value}")
    return "".join(f"{line}\n" for line in lines)
