"""What every test may rely on."""

from __future__ import annotations

import signal

# A shell starts background jobs with SIGINT ignored, and children inherit that. Tests that send
# it, to this process or to their own, must not depend on how the test run was started.
signal.signal(signal.SIGINT, signal.default_int_handler)
