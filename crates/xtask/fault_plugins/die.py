"""Ends its process in the way that `how` says, in every run."""

import ctypes
import os


def by_exit():
    os._exit(3)


def by_segmentation_fault():
    ctypes.string_at(0)


def process_writes(influxdb3_local, table_batches, args=None):
    globals()[args["how"]]()
