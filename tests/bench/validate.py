"""`runbook validate` of a long runbook."""

import measure
import tables
from places import STATE, Wrong, ours, program

STEPS = 5000


def run(runs: int) -> bool:
    folder = STATE / "sets/validate"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "long.toml"
    file.write_text(runbook())
    command = [program(), "validate", file]
    measure.run("validate-warm", command, [], ours())
    samples = [measure.run("validate", command, [], ours()) for _ in range(runs)]
    if f"{STEPS} steps, no mistakes" not in samples[-1].output:
        raise Wrong(f"validate said: {samples[-1].output}")
    tables.title(f"`validate` of {STEPS} steps ({file.stat().st_size / 1e6:.1f} MB of TOML), median (range) of {runs} runs")
    tables.table(
        ["seconds", "CPU seconds", "peak MB"],
        [
            [
                tables.spread([s.wall for s in samples], 3),
                tables.median((s.client_cpu for s in samples), 3),
                f"{max(s.peak for s in samples) / 1e6:.0f}",
            ]
        ],
    )
    return True


def runbook() -> str:
    """Steps of several kinds, with expressions, conditions, and outputs of the step above."""
    head = 'schema = 1\nname = "long"\n\n[vars]\nroot = "/srv/long"\n\n[hosts.h1]\naddress = "192.0.2.1"\nvars = { n = 1 }\n\n'
    kinds = (
        'uses = "core/directory"\nwith = {{ path = "{{{{ vars.root }}}}/{i}", mode = "0755" }}',
        'uses = "core/file"\nwith = {{ path = "{{{{ vars.root }}}}/{below}/file", content = "step {i} on {{{{ host.name }}}}", mode = "0644" }}',
        'uses = "core/line"\nwith = {{ path = "{{{{ vars.root }}}}/{i}", match = "^level ", line = "level {i}", create = true }}',
        'uses = "core/command"\nwith = {{ argv = ["cat", "{{{{ vars.root }}}}/{i}"], changed_when = "never" }}',
        'uses = "core/script"\nwhen = "steps.s{below}.outputs.stdout != \'done\'"\nwith.script = "echo done"',
    )
    return head + "".join(f'[[step]]\nid = "s{i}"\non = "h1"\n' + kinds[i % 5].format(i=i, below=i - 1) + "\n\n" for i in range(STEPS))
