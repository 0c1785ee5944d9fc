"""Turns an exception into the two texts that people see."""


def describe(error, owns):
    """The message, as `Type: text`, and the whole traceback, beginning at the first frame that `owns` (a predicate on file
    names) calls the plugin's: what lies before it is ours or the import machinery's, and tells the author nothing."""
    import traceback

    frames = error.__traceback__
    while frames is not None and not owns(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return message(error), "".join(lines).rstrip("\n")


def message(error):
    """`Type: text` of an exception, whatever its `__str__` does."""
    try:
        text = str(error)
    except BaseException:
        text = "<exception str() failed>"
    return f"{type(error).__qualname__}: {text}"
