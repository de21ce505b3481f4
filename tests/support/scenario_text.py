"""A scenario's text, and the message that a mistake in it gives."""
# one mistake and its message a line

import pytest

from edgeemu.errors import RequestError
from edgeemu.scenario.load import parse_scenario

TEXT = """\
model: smollm2-135m-instruct
devices:
  - {name: pi, profile: raspberry-pi-4, count: 2, memory: 512 MiB}
  - name: laptop
    profile: laptop-cpu
    memory: 1 GiB
network:
  topology: mesh
  default: {bandwidth: 100 Mbit/s, delay: 2 ms}
  links:
    - {between: [pi, laptop], bandwidth: 10 Mbit/s, delay: 25 ms}
    - {from: pi-1, to: pi-2, delay: 5 ms}
policy: greedy
workload:
  prompts: [Why is the sky blue?, {text: And the sea?, max_tokens: 8}]
time: {mode: realtime, dilation: auto}
"""


def error_of(text: str, *overrides: str) -> str:
    with pytest.raises(RequestError) as caught:
        parse_scenario(text, "quickstart", overrides)
    return str(caught.value)
