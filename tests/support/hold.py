"""Holds a listening socket as systemd does, and starts the relay on it again whenever a line comes in."""

import os
import socket
import subprocess
import sys

program, config, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", port), backlog=1024)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)


def start():
    # The process that reads the variable is the one it names.
    shell = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" run --config "$1"'
    return subprocess.Popen(["sh", "-c", shell, program, config], close_fds=False)


child = start()
for _ in sys.stdin:
    child.terminate()
    child.wait()
    child = start()
    print("restarted", flush=True)
child.terminate()
sys.exit(child.wait())
