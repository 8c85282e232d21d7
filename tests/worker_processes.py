"""Starts the workers of one training on this machine, each in its own process."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

TESTS = Path(__file__).parent


def start_workers(*commands):
    """Starts Python with these arguments, as the workers of one training."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in commands]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    processes = []
    for index, command in enumerate(commands):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=os.environ
            | {
                "TF_CONFIG": config,
                "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
    return processes


def wait_for_workers(processes):
    """Returns the exit codes, and what the workers printed."""
    try:
        printed = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], printed
