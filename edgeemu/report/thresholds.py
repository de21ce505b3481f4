"""Thresholds of the certificate, each with its reason. `docs/run.md` has the rules as a table.

Shares are of the emulated figure. Seconds of the wall clock end in `_WALL_S`.
"""

# The wall clock against the timeline.
WARN_CLOCK = 0.01  # TPOT: what a calm host keeps by a factor of ten
INVALID_CLOCK = 0.05
WARN_FIRST_CLOCK = 0.03  # TTFT: few samples, and a prefill ends with whole milliseconds of kernels
INVALID_FIRST_CLOCK = 0.15
PAUSE_WALL_S = 0.02  # a token later than this by the clock, and alone with it: the host stood still
WARN_PAUSE_WALL_S = 0.1  # on stamped links, whose figures do not contain it; on others every pause counts
PAUSE_SHARE = 0.5  # of all that tokens were late: what the longest pauses have to explain
PAUSES = 3  # the most that count as pauses: more are a slow host

# Operations. Figures of stamped links bear it, but the order of messages may not.
MIN_LAG_WALL_S = 1e-3  # what timers and the scheduler of a calm host take is no lag
WARN_LAG_OF_TOKEN = 0.10  # p99 of the lateness of results, as a share of the latency of their own token
ALLOWED_LAG_OF_TOKEN = 0.05  # an operation may be late by so much of its token, or by its own duration
WARN_DELAYED = 0.05  # share of the operations that are later than that
INVALID_DELAYED = 0.50
WARN_REORDERED = 0.01  # share of the messages that met a pipe out of the order of departure

# The timeline's prediction, where neither placement nor cluster changed.
WARN_PREDICTION = 0.01  # TPOT, decisions left out: on the timeline alone the two are equal
WARN_RELATIVE = 0.10  # with devices that are given as a fraction of this host, whose kernels are measured
WARN_RELATIVE_PACED = 0.35  # the same where devices sleep between kernels: then these run up to a third slower
WARN_TRANSPORT = 0.10  # of kernel and hybrid links, which carry real packets

# The host.
INVALID_STALLED = 0.05  # share of the run that a device stood still, on kernel and hybrid links
WARN_STEAL = 0.05  # share of the processor time that the hypervisor gave to others
SATURATED = 0.9  # share of the processor time above which the host counts as full
NOTICED_OTHERS = 0.1  # share of it that other programs took: named where a run was late
WARN_DECISIONS = 0.01  # share of TPOT that is the policy's own time: what two runs on one calm host agree in

# Kernel and hybrid links, by their self-test.
WARN_DELAY_WALL_S = 0.5e-3  # added to the share
WARN_DELAY = 0.05
WARN_RATE = 0.08
WARN_TRIP_OF_TOKEN = 0.01  # deviation of a round trip of the run's own messages, in the mean TPOT
INVALID_TRIP_OF_TOKEN = 0.10
