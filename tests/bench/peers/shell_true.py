"""shell_true.py SET N: one connection, one channel with a shell in it, that is told N times to run /bin/true and to say how it ended."""

import subprocess
import sys

shell = subprocess.Popen(["ssh", "-F", sys.argv[1] + "/ssh_config", "h1", "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
for _ in range(int(sys.argv[2])):
    shell.stdin.write(b"/bin/true; echo $?\n")
    assert shell.stdout.readline() == b"0\n"
shell.stdin.close()
sys.exit(shell.wait())
