"""Works of operations, which are computed once for all that are alike, are those of the step that is looked at."""

import numpy as np
import pytest
from support.builders import LLAMA, scattered

from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import Costs, PhysicalCosts
from edgeemu.placement.operation_costs import op_work
from edgeemu.placement.paper_costs import PaperCosts
from edgeemu.timeline.operation_sizes import KnownKinds

OPS = compile_routes(scattered(LLAMA, 3, 1), LLAMA).ops


@pytest.mark.parametrize("costs", [PhysicalCosts(LLAMA), PaperCosts(LLAMA, prompt_tokens=7, length=11)])
def test_works_are_those_of_the_step_also_at_the_length_that_costs_are_of(costs: Costs) -> None:
    kinds = KnownKinds(costs)
    which = np.array([kinds.number(at, op) for at, op in enumerate(OPS)])
    for past in (9, 10, 11):
        assert kinds.works(which, 1, past).tolist() == [list(op_work(op, 1, past, costs)) for op in OPS]
