"""Disks, by what smartctl says of them."""

from runbook_sdk import AT_STEP_END_IF_CHANGED, Conflict, Machine, Plugin, ensure, fail, harmless, inverse

plugin = Plugin()

# smartctl's exit code is a set of bits. These two say that it was not able to ask; the others tell of the disk.
NOT_ASKED = 0b11


@plugin.converge("tested")
def tested(inputs):
    machine, device = Machine.target("host"), inputs["device"]
    disk = ask(machine, device)
    refuse_unhealthy(disk, device, inputs["max_reallocated"])
    if not being_tested(disk) and hours_since_test(disk) > inputs["max_age_hours"]:
        abort = machine.cmd(["smartctl", "--abort", device], privileged=True)
        machine.cmd(["smartctl", "--test=long", device], privileged=True).change(
            f"start a long self-test of {device}", undo=inverse(abort), alters=[f"disk:{device}"]
        )
    return {"model": disk["model_name"], "serial": disk["serial_number"], "hours": hours(disk)}


@plugin.converge("watched")
def watched(inputs):
    machine = Machine.target("host")
    path, device = inputs["config"], inputs["device"]
    line = f"{device} -a -s L/../../7/{inputs['hour']:02} -m {inputs['mail']}"
    old = machine.files.read_text(path) or ""
    if machine.files.file(path, with_disk(old, device, line), summary=f"let smartd watch {device}"):
        machine.cmd(["systemctl", "restart", "smartd"], privileged=True).change(
            "restart smartd", undo=harmless(), alters=["service:smartd"], timing=AT_STEP_END_IF_CHANGED
        )


@plugin.verify("watched")
def is_watched(inputs):
    """smartd refuses a configuration that it does not understand, and is then no longer there."""
    state = Machine.target("host").cmd(["systemctl", "is-active", "smartd"], reads=["service:smartd"]).observe().text()
    return [] if state == "active" else [f"smartd is {state}: `journalctl --unit smartd` says why"]


def ask(machine, device):
    """What the disk says of itself."""
    look = machine.cmd(["smartctl", "--json", "--xall", device], privileged=True, reads=[f"disk:{device}"])
    output = look.observe()
    if output.code is None or output.code & NOT_ASKED:
        fail(f"{device} on {machine.name} cannot be asked: {message(output)}")
    return output.json()


def message(output):
    """Why smartctl failed. It says so in its JSON, on standard output; where there is none, on standard error."""
    try:
        said = [entry["string"] for entry in output.json()["smartctl"]["messages"]]
    except Exception:
        said = [output.stderr.decode(errors="replace").strip()]
    return "; ".join(said) or f"exit code {output.code}"


def refuse_unhealthy(disk, device, max_reallocated):
    """A disk that is about to die gets no data: a person decides."""
    if not disk.get("smart_status", {}).get("passed", False):
        raise Conflict(f"{device} ({disk.get('serial_number')}) says that it is failing: replace it")
    attributes = disk.get("ata_smart_attributes", {}).get("table", [])
    reallocated = next((a["raw"]["value"] for a in attributes if a["id"] == 5), 0)
    ensure(
        reallocated <= max_reallocated, f"{device} has given up {reallocated} sectors, {max_reallocated} are allowed"
    )
    errors = disk.get("nvme_smart_health_information_log", {}).get("media_errors", 0)
    ensure(errors == 0, f"{device} has lost data {errors} times")


def hours(disk):
    return disk["power_on_time"]["hours"]


def being_tested(disk):
    ata = disk.get("ata_smart_data", {}).get("self_test", {}).get("status", {}).get("value", 0) >> 4 == 0xF
    nvme = disk.get("nvme_self_test_log", {}).get("current_self_test_operation", {}).get("value", 0) != 0
    return ata or nvme


def hours_since_test(disk):
    """Hours since the last long self-test that ended well; infinite where there is none."""
    ata = disk.get("ata_smart_self_test_log", {})
    table = ata.get("extended", ata.get("standard", {})).get("table", [])
    # ATA notes the hours of a test in 16 bits.
    ages = [
        (hours(disk) - test["lifetime_hours"]) % 0x10000
        for test in table
        if test["type"]["value"] == 2 and test["status"].get("passed")
    ]
    for test in disk.get("nvme_self_test_log", {}).get("table", []):
        if test["self_test_code"]["value"] == 2 and test["self_test_result"]["value"] == 0:
            ages.append(hours(disk) - test["power_on_hours"])
    return min(ages, default=float("inf"))


def with_disk(text, device, line):
    """smartd's configuration with this line for the device. DEVICESCAN ends what smartd reads, so the line stands before it."""
    lines = [old for old in (text.removesuffix("\n").split("\n") if text else []) if old.split()[:1] != [device]]
    scan = next((i for i, old in enumerate(lines) if old.startswith("DEVICESCAN")), len(lines))
    return "".join(new + "\n" for new in [*lines[:scan], line, *lines[scan:]])
