"""The version of the package; the version of the plan format is `plan.FORMAT_VERSION`."""

__version__ = "0.1.0"
