"""The one error for a model that cannot be built as asked for.

    raise ModelError("optimizer: unknown 'adma'; there are adamw, adafactor, muon")

Copy: alone; needs only Python.
"""


class ModelError(ValueError):
    """Its message is the one line that a user sees."""

    exit_code = 2
