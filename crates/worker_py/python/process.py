"""What is set up once in the process, and what needs Python's own machinery: event loops, threads, interruption."""

import _thread
import faulthandler
import os
import signal
import sys


def set_up(on_interrupt, on_fork):
    """Signals, stack dumps and output of the process. `on_interrupt(signal, frame)` raises if a run is to be ended;
    `on_fork()` is called in every process that is forked from this one."""
    os.register_at_fork(after_in_child=on_fork)
    # The terminal's Ctrl-C reaches the whole process group; the server decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, on_interrupt)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    for stream in (sys.stdout, sys.stderr):
        # One write a line, and no exception for a character that the locale does not have.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=False)


def start_thread(target, name):
    """Starts a thread that `threading` knows, so that per-thread state and event loops behave."""
    import threading

    threading.Thread(target=target, name=name, daemon=True).start()


class RunTimeout(TimeoutError):
    """Raised in the thread of a run that the server ends."""

    reason = "the run was ended"

    def __init__(self, *args):
        # The interpreter raises the class without arguments, so the text is the class's.
        super().__init__(*(args or (type(self).reason,)))


def run_timeout(reason):
    """A class that raises as `RunTimeout: <reason>`."""
    return type("RunTimeout", (RunTimeout,), {"reason": reason, "__module__": RunTimeout.__module__})


def wake_main_thread(ident, on_interrupt):
    """Interrupts a system call in the main thread, unless the plugin uses the signal for something else."""
    if signal.getsignal(signal.SIGUSR2) is on_interrupt:
        signal.pthread_kill(ident, signal.SIGUSR2)


_loops = None
_waiting = {}
_UNWIND_SECONDS_MAX = 1


def wait_for(awaitable):
    """The result of an awaitable, on this thread's event loop, which is kept for later runs."""
    global _loops
    import asyncio

    if _loops is None:
        import threading

        _loops = threading.local()
    loop = getattr(_loops, "loop", None)
    if loop is None or loop.is_closed():
        loop = _loops.loop = asyncio.new_event_loop()
    task = asyncio.ensure_future(awaitable, loop=loop)
    ident = _thread.get_ident()
    _waiting[ident] = loop
    try:
        return loop.run_until_complete(task)
    finally:
        _waiting.pop(ident, None)
        if not task.done():
            # The loop itself was interrupted, by a deadline or an exit; it may hold half a step and is not used again.
            _loops.loop = None
            _unwind(loop, task)


def wake_loop(ident):
    """Makes a thread that waits in its event loop execute Python code, where what was raised for it is raised."""
    loop = _waiting.get(ident)
    if loop is not None:
        try:
            loop.call_soon_threadsafe(int)
        except RuntimeError:
            # The loop has just been closed.
            pass


def _unwind(loop, task):
    """Lets a task that was interrupted while it waited go through its `finally` blocks."""
    import asyncio

    task.cancel()
    try:
        loop.run_until_complete(asyncio.wait({task}, timeout=_UNWIND_SECONDS_MAX))
    except BaseException:
        # What ends the run is raised already.
        pass


_END = object()


def next_item(items):
    """The next item of an asynchronous iterator in a tuple, or `None` at its end."""
    item = wait_for(anext(items, _END))
    return None if item is _END else (item,)
