"""Settings of all tests: property tests without a time limit per example, because machines are busy."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
