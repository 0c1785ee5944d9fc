"""Tries to leave, or to take the ground from under its process, in the way that `how` says."""

import _thread
import os
import signal
import sys
import threading
import time


def sys_exit():
    sys.exit(7)


def keyboard_interrupt():
    raise KeyboardInterrupt


def system_exit_in_a_thread():
    thread = threading.Thread(target=sys.exit, args=(7,))
    thread.start()
    thread.join()


def interrupted_main():
    _thread.interrupt_main()
    time.sleep(0.2)


def sigint():
    signal.raise_signal(signal.SIGINT)
    time.sleep(0.2)


def close_descriptors():
    os.closerange(0, 65536)


def process_request(influxdb3_local, query_parameters, request_headers, request_body, args=None):
    if "how" in query_parameters:
        globals()[query_parameters["how"]]()
    return "well"
