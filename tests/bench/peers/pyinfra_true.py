import os

from pyinfra.operations import server

for i in range(int(os.environ["STEPS"])):
    server.shell(name=f"t{i}", commands=["true"])
