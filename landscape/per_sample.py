"""Squared norms of per-sample gradients of a network's logits against given cotangents, without a loop over samples.

One of four routes is taken, the first that holds. A *grad* is the forward and backward pass of the mean loss.

==============  ====================================================================  ==========================
route           what it does                                                          cost of one cotangent
==============  ====================================================================  ==========================
``layers``      a rule for every layer: the norm follows from the layer's input and   1 to 2 grads
                the gradient at its output (Goodfellow, "Efficient per-example
                gradient computations", 2015), so one backward pass serves all
``mixed``       rules where there are some; modules without one are computed again    as above, and 2 to 5 grads
                for each sample from their kept inputs, by ``torch.func.vmap``        of those modules
``vectorised``  ``torch.func.vmap`` of the gradient of the whole network              2 to 5 grads, and memory for
                                                                                      the gradients of the samples
``single``      a backward pass a sample                                              n grads of a batch of one
==============  ====================================================================  ==========================

Before a route is taken its norms are compared with those of plain backward passes on three samples, group by group of
parameters: a rule that does not hold is left for the next way, never believed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.errors import LandscapeError
from landscape.failures import out_of_memory
from landscape.inputs import Inputs, sample_count, take
from landscape.network import Network, without_fast_path
from landscape.planned_pass import PlannedPass, whole_squares
from landscape.sample_plan import Group, Plan, Planner
from landscape.task import Task

Cotangents = Callable[[Tensor], Tensor]
"""From the logits (n, classes) to R cotangents a sample (R, n, classes)."""

ROUTES = ("layers", "mixed", "vectorised", "single")

COMPARED_SAMPLES = 3
"""On which a route is compared with plain backward passes: few dimensions have this size by chance."""

AGREEMENT = 1e-3
"""Relative difference from plain backward passes that is taken for rounding."""

NEGLIGIBLE = 1e-6
"""Squared norm of a group, relative to that of all parameters, that may be all rounding."""

LARGEST_SHARE = 0.5
"""Of the parameters: where the whole network is computed again for more of them, it is for all."""


@dataclass(frozen=True, eq=False)
class SampleGradients:
    """What one forward pass gives.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
        Without their graph.
    squares : Tensor, shape (R, n)
        Squared norms of the per-sample gradients.
    gradient : Tensor, shape (P,)
        Sum over the samples, in the network's flat order.
    """

    logits: Tensor
    squares: Tensor
    gradient: Tensor


class PerSampleNorms:
    """Squared norms of ``d(u_n . z_n)/dw`` for cotangents u_n of the logits z_n.

    Parameters
    ----------
    network : Network
    task : Task
        Turns the network's output into logits.
    route : {"layers", "mixed", "vectorised", "single"}
        The first to try.

    Attributes
    ----------
    route : str
        The route taken; final after the first batch of two samples or more.
    """

    def __init__(self, network: Network, task: Task, *, route: str = "layers") -> None:
        if route not in ROUTES:
            raise LandscapeError(f"the route is {route!r}", f"one of {', '.join(ROUTES)}")
        self.network = network
        self.task = task
        self.route = route
        self._first_route = route
        self._plan: Plan | None = None
        self._settled = False

    def squares(self, inputs: Inputs, cotangents: Cotangents) -> Tensor:
        """Squared gradient norms, shape (R, n).

        Parameters
        ----------
        inputs : Inputs
        cotangents : callable
            From the detached logits (n, classes) to R cotangents a sample, (R, n, classes).
        """
        return self._found(inputs, cotangents, None)[1]

    def first_order(self, inputs: Inputs, cotangents: Cotangents, total: Cotangents) -> SampleGradients:
        """Logits, squared norms and a summed gradient from one forward pass.

        Parameters
        ----------
        inputs : Inputs
        cotangents : callable
            As in :meth:`squares`.
        total : callable
            From the detached logits to one cotangent a sample, (n, classes): the gradient is that of
            ``sum_n total_n . z_n``.
        """
        logits, squares, gradient = self._found(inputs, cotangents, total)
        assert gradient is not None
        return SampleGradients(logits, squares, gradient)

    def _found(
        self, inputs: Inputs, cotangents: Cotangents, total: Cotangents | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if not self._settled:
            self._settle(inputs)
        while True:
            try:
                if self.route in ("layers", "mixed"):
                    return self._planned(inputs, cotangents, total)
                return self._unplanned(inputs, cotangents, total)
            except RuntimeError as error:  # this batch is unlike the first, or an operation cannot be vectorised
                if out_of_memory(error) or self.route == "single":
                    raise
                self.route = "single" if self.route == "vectorised" else "vectorised"

    def _planned(
        self, inputs: Inputs, cotangents: Cotangents, total: Cotangents | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        assert self._plan is not None
        work = PlannedPass(self._plan, self.network, self.task, inputs)
        try:
            logits = work.logits.detach()
            gradient = None
            if total is not None:
                gradient = self.network.gradient(work.logits, [total(logits)], retain_graph=True)
            directions = cotangents(logits)
            rounds = []
            for index, direction in enumerate(directions):
                parts = work.squares(direction, retain_graph=index + 1 < len(directions))
                rounds.append(torch.stack(parts).sum(0))
        finally:
            work.close()
        return logits, torch.stack(rounds), gradient

    def _unplanned(
        self, inputs: Inputs, cotangents: Cotangents, total: Cotangents | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        with torch.set_grad_enabled(total is not None), without_fast_path():
            output = self.task.logits(self.network(inputs))
        logits = output.detach()
        gradient = None if total is None else self.network.gradient(output, [total(logits)])
        del output
        if self.route == "single":
            return logits, self._single(inputs, cotangents(logits))[0].sum(1), gradient
        names = tuple(self.network.names)
        rounds = [whole_squares(self.network, self.task, inputs, d, names) for d in cotangents(logits)]
        return logits, torch.stack(rounds), gradient

    def _single(self, inputs: Inputs, directions: Tensor) -> tuple[Tensor, list[bool]]:
        """Squared norms for each parameter tensor, shape (R, tensors, n), and whether any logit depends on it."""
        squares = directions.new_zeros(len(directions), len(self.network.parameters), sample_count(inputs))
        used = [False] * squares.shape[1]
        for n in range(squares.shape[2]):
            logits = self.task.logits(self.network(take(inputs, slice(n, n + 1))))[0]
            for index, direction in enumerate(directions[:, n]):
                gradients = torch.autograd.grad(
                    logits, self.network.parameters, direction, retain_graph=True, allow_unused=True
                )
                for place, gradient in enumerate(gradients):
                    if gradient is not None:
                        squares[index, place, n] = gradient.square().sum()
                        used[place] = True
        return squares, used

    def _settle(self, inputs: Inputs) -> None:
        """Take the first route that agrees with plain backward passes on three samples."""
        few = take(inputs, slice(COMPARED_SAMPLES))
        self._settled = sample_count(few) > 1
        self.route = self._first_route
        if self.route == "single":
            return
        with torch.no_grad(), without_fast_path():
            logits = self.task.logits(self.network(few))
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits)
        (expected,), used = self._single(few, direction[None])
        if self.route != "vectorised" and _holds(lambda: self._settle_plan(few, direction, expected, used)):
            return

        def vectorised() -> bool:
            names = tuple(self.network.names)
            found = whole_squares(self.network, self.task, few, direction, names)
            return _agree(found, expected.sum(0), expected.sum(0))

        self.route = "vectorised" if _holds(vectorised) else "single"

    def _settle_plan(self, few: Inputs, direction: Tensor, expected: Tensor, used: list[bool]) -> bool:
        """Whether there is a plan that agrees, and pays."""
        planner = Planner(self.network, few, used)
        while True:
            plan = planner.plan()
            if plan.share_of(self.network.module, self.network.sizes) > LARGEST_SHARE:
                return False
            wrong = self._wrong_groups(plan, few, direction, expected)
            if not wrong:
                break
            if not all([planner.give_up(group) for group in wrong]):
                return False
        self._plan = plan
        self.route = "layers" if all(group.rule is not None for group in plan.groups) else "mixed"
        return True

    def _wrong_groups(self, plan: Plan, few: Inputs, direction: Tensor, expected: Tensor) -> list[Group]:
        work = PlannedPass(plan, self.network, self.task, few, forgiving=True)
        try:
            found = work.squares(direction, retain_graph=False)
        finally:
            work.close()
        whole = expected.sum(0)
        pairs = [
            (group, squares, expected[list(group.indices)].sum(0))
            for group, squares in zip(plan.groups, found, strict=True)
        ]
        return [g for g, squares, right in pairs if g in work.failed or not _agree(squares, right, whole)]


def _holds(route: Callable[[], bool]) -> bool:
    """Whether a route neither fails nor disagrees; a user's network, hooked or vectorised, may raise anything."""
    try:
        return route()
    except Exception as error:
        if out_of_memory(error):
            raise
        return False


def _agree(found: Tensor, expected: Tensor, whole: Tensor) -> bool:
    """Whether squared norms are equal up to rounding; a network whose gradients are not finite agrees with itself."""
    close = (found - expected).abs() <= AGREEMENT * expected + NEGLIGIBLE * whole
    return bool((close | ~whole.isfinite()).all())
