import os

from pyinfra import host
from pyinfra.facts.files import File, Link
from pyinfra.operations import files, server

FILES = os.environ["SET"] + "/files"
app, etc = host.data.hostroot + "/app", host.data.hostroot + "/etc"
values = dict(env="prod", app_port=8443, workers=12, db_host="db01.internal", host_name=host.data.host_name, host_idx=host.data.host_idx)

files.directory(name="app", path=app, mode="755", user="root", group="root")
files.directory(name="conf", path=app + "/conf", mode="750", user="root", group="adm")
files.directory(name="data", path=app + "/data", mode="700", user="nobody", group="nogroup")
files.directory(name="log", path=app + "/log", mode="775", user="root", group="adm")
for n in range(1, 7):
    mode, group = ("644", "root") if n < 4 else ("640", "adm")
    files.template(name=f"t{n}", src=f"{FILES}/t{n}.conf.j2", dest=f"{app}/conf/t{n}.conf", mode=mode, user="root", group=group, **values)
files.line(name="connections", path=etc + "/app.conf", line="^MaxConnections .*", replace="MaxConnections 512")
files.line(name="database", path=etc + "/hosts", line="10.0.0.7 db01.internal")
files.block(name="profile", path=etc + "/profile", marker="# {mark} BENCH", content="export APP_PORT=8443\nexport APP_ENV=prod")
files.put(name="payload", src=f"{FILES}/payload.bin", dest=app + "/data/payload.bin", mode="644", user="root", group="root")
# The idiom of pyinfra: facts are gathered while it prepares.
if not host.get_fact(File, path=app + "/data/payload.sha256"):
    server.shell(name="checksum", commands=[f"cd {app}/data && sha256sum payload.bin > payload.sha256"])
if not host.get_fact(File, path=app + "/data/generated.txt"):
    server.shell(name="generated", commands=[f"tr a-z A-Z < {app}/conf/t1.conf > {app}/data/generated.txt"])
if (host.get_fact(Link, path=app + "/current") or {}).get("link_target") != "data":
    server.shell(name="current", commands=[f"cd {app} && ln -sfn data current"])
if not host.get_fact(File, path=app + "/data/lines.txt"):
    server.shell(name="lines", commands=[f"cat {app}/conf/*.conf | sort -u | wc -l > {app}/data/lines.txt"])
service = server.shell(name="service", commands=[f"cat {app}/data/svc.state 2>/dev/null || echo stopped"])
server.shell(name="start", commands=[f"echo running > {app}/data/svc.state"], _if=lambda: "running" not in service.stdout)
