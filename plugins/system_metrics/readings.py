"""What the operating system says right now, as plain dictionaries."""

import time
from dataclasses import dataclass

import psutil

# Devices without a medium of their own: their traffic is another device's traffic.
VIRTUAL_DEVICES = ("loop", "ram", "zram")


@dataclass(frozen=True)
class Counters:
    """Figures that only grow. Two of them make a rate."""

    taken_at: float  # seconds of a clock that is never set back
    cpu: dict  # "total", "0", "1", ... -> {kind of time: seconds}
    disk_io: dict  # device -> {figure: count}
    network: dict  # interface -> {figure: count}


def counters():
    cpu = {"total": psutil.cpu_times()._asdict()}
    for number, times in enumerate(psutil.cpu_times(percpu=True)):
        cpu[str(number)] = times._asdict()
    return Counters(time.monotonic(), cpu, disk_io(), network())


def disk_io():
    try:
        devices = psutil.disk_io_counters(perdisk=True) or {}
    except (OSError, NotImplementedError, RuntimeError):
        return {}  # some containers hide the disks
    return {
        device: {
            "read_bytes": io.read_bytes,
            "written_bytes": io.write_bytes,
            "reads": io.read_count,
            "writes": io.write_count,
        }
        for device, io in devices.items()
        if not device.startswith(VIRTUAL_DEVICES)
    }


def network():
    return {
        interface: {
            "received_bytes": io.bytes_recv,
            "sent_bytes": io.bytes_sent,
            "received_packets": io.packets_recv,
            "sent_packets": io.packets_sent,
            "errors": io.errin + io.errout,
            "dropped": io.dropin + io.dropout,
        }
        for interface, io in psutil.net_io_counters(pernic=True).items()
    }


def memory():
    ram = psutil.virtual_memory()
    swap = psutil.swap_memory()
    return {
        "total_bytes": ram.total,
        "available_bytes": ram.available,
        "used_bytes": ram.used,
        "used_percent": float(ram.percent),
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
        "swap_used_percent": float(swap.percent),
    }


def disk_space():
    """Space of every mounted disk. `/` is always there, also where a container shows no disks."""
    paths = {"/", *(partition.mountpoint for partition in psutil.disk_partitions(all=False))}
    space = {}
    for path in sorted(paths):
        try:
            usage = psutil.disk_usage(path)
        except OSError:
            continue  # not ours to read, or gone since we asked
        space[path] = {
            "total_bytes": usage.total,
            "used_bytes": usage.used,
            "free_bytes": usage.free,
            "used_percent": float(usage.percent),
        }
    return space
