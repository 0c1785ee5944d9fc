"""From two readings of a counter to what happened between them. No I/O in here."""

# Linux counts a guest's time in `user` and `nice` too; adding it would count it twice.
COUNTED_ELSEWHERE = ("guest", "guest_nice")
# Waiting for a disk is time in which the core could have worked for somebody else.
NOT_BUSY = ("idle", "iowait")


def cpu_shares(before, now):
    """Percent of the time between two readings spent in each kind of CPU time.

    None where there is nothing to compare with, or no time has passed.
    """
    if before is None:
        return None
    # Some kernels let iowait go back a little.
    spent = {kind: max(0.0, seconds - before.get(kind, seconds)) for kind, seconds in now.items()}
    total = sum(seconds for kind, seconds in spent.items() if kind not in COUNTED_ELSEWHERE)
    if total <= 0:
        return None
    shares = {f"{kind}_percent": 100 * seconds / total for kind, seconds in spent.items()}
    not_busy = sum(spent.get(kind, 0.0) for kind in NOT_BUSY)
    return {"usage_percent": 100 * (total - not_busy) / total, **shares}


def rates_per_second(before, now, seconds):
    """Every counter's growth per second.

    None where there is nothing to compare with, or where a counter went back: the
    device was replaced or the interface restarted.
    """
    if before is None or seconds <= 0:
        return None
    if any(now[name] < before[name] for name in now):
        return None
    return {f"{name}_per_s": (now[name] - before[name]) / seconds for name in now}
