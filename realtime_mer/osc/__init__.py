"""Open Sound Control: what is sent, to whom, how often and how smoothly; and the commands that come back.

In the order of the flow: space (the addresses), composing (a target's values at each moment), messages (the encoding),
transports (UDP, TCP), sender (a target's thread), sink (all of them), control (commands in), query (OSCQuery);
table (the addresses as a page); for osc-monitor receiving (what is sent to a port), traffic (rates and jitter),
listening (views); and below these, ports (looked up and bound, or why not).
"""

from realtime_mer.errors import RealtimeMerError


class OscError(RealtimeMerError, RuntimeError):
    """A port that cannot be opened, or something that is needed for it is not installed."""
