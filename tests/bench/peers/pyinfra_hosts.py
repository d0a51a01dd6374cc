import json
import os

bench = [
    (
        host["name"],
        dict(
            ssh_hostname=host["address"],
            ssh_port=host["port"],
            ssh_user="root",
            ssh_key=host["key"],
            ssh_known_hosts_file=host["known_hosts"],
            ssh_strict_host_key_checking="yes",
            hostroot=host["root"],
            host_idx=host["index"],
            host_name=host["name"],
        ),
    )
    for host in json.load(open(os.environ["SET"] + "/hosts.json"))
]
