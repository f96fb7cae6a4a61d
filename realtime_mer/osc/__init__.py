"""Open Sound Control: what is sent to which target, how often and how smoothly; and the commands that are taken.

In the order of the flow: composing (a target's values at each moment), values (what each address carries), messages
(the encoding), transports (UDP, TCP), sender (a target's thread), sink (all targets), control (commands), query
(OSCQuery). Beside it: status (the state of all of these), and ports (opens ports).
The addresses themselves are in config/space.py.
"""

from realtime_mer.errors import RealtimeMerError


class OscError(RealtimeMerError, RuntimeError):
    """A port that cannot be opened, or a package for it that is not installed."""
