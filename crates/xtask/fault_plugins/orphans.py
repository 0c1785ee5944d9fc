"""Starts children that would outlive it, and answers with their process ids: `group` stay in its process group, `daemon` leave
it and have no parent but init."""

import os
import signal
import subprocess
import time


def sleep_for_ever():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1000)


def forked():
    child = os.fork()
    if child == 0:
        sleep_for_ever()
    return child


def daemon():
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.setsid()
        grandchild = os.fork()
        if grandchild == 0:
            sleep_for_ever()
        os.write(write_end, str(grandchild).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read_end, 20))


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    if "start" not in query_parameters:
        return "well"
    program = subprocess.Popen(["sleep", "100000"])
    return {"group": [program.pid, forked()], "daemon": [daemon()]}
