"""What one trace may spend, and what it has spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from diffcheck.alarm import processor_time
from diffcheck.declare.operation import Operation
from diffcheck.errors import BudgetExceeded


@dataclass(frozen=True, slots=True)
class Budget:
    """What one trace may spend."""

    operations: int = 10_000
    elements: int = 200_000
    seconds: float = 10.0
    """Of processor time."""


@dataclass(slots=True)
class Spending:
    """What one trace spends.

    Args:
        budget: What it may.
    """

    budget: Budget
    operations: int = 0
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = processor_time() + self.budget.seconds

    def spend(self, op: Operation) -> None:
        """Counts an operation.

        Raises:
            BudgetExceeded: There were too many, or it took too long.
        """
        self.operations += 1
        if self.operations > self.budget.operations:
            raise BudgetExceeded(
                f"it ran more than {self.budget.operations:,} operations, the last one {op.text}; "
                "does a loop never end?"
            )
        if processor_time() > self.deadline:
            raise BudgetExceeded(
                f"it ran for more than {self.budget.seconds:g} seconds; the last operation was {op.text}"
            )

    def check_size(self, op: Operation, outputs: Sequence[Tensor]) -> None:
        """Looks at what an operation made.

        Raises:
            BudgetExceeded: It is larger than what a trace follows.
        """
        for tensor in outputs:
            if tensor.numel() > self.budget.elements:
                raise BudgetExceeded(
                    f"{op.text} made a tensor of {tensor.numel():,} elements; "
                    f"a trace follows up to {self.budget.elements:,}"
                )
