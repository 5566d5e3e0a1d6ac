"""A space searched by optuna: designs are asked for, worked out, and told, so that the next ones are better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from systolith.designs.space import Space

ROUND = 40
"""Designs that are asked for at a time; the population of the NSGA-II sampler."""


def search(space: Space, evaluate: Callable[[Sequence[int]], Sequence[Sequence[float]]], columns: int) -> list[int]:
    """The numbers of the designs that were looked at, ascending; at most `space.points`, each once.

    The sampler is NSGA-II (Deb et al., IEEE Trans. Evolutionary Computation 6(2), 2002), seeded by the space: the
    same space and costs give the same designs, however many are worked out at a time.

    Args:
        space: of kind "optuna".
        evaluate: the costs of designs by their numbers in the grid, all to be made least.
        columns: how many costs a design has.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(seed=space.seed, population_size=ROUND)
    study = optuna.create_study(directions=["minimize"] * columns, sampler=sampler)
    axes = [("model", space.models), *space.axes]
    sizes = {name: len(values) for name, values in axes}
    known: dict[int, Sequence[float]] = {}
    idle = 0
    # A small space is soon seen whole: asking again and again finds nothing new.
    while len(known) < min(space.points, space.size) and idle < ROUND:
        trials = [study.ask() for _ in range(min(ROUND, space.points - len(known)))]
        numbers = []
        for trial in trials:
            number = 0
            for name, size in sizes.items():
                number = number * size + (trial.suggest_int(name, 0, size - 1) if size > 1 else 0)
            numbers.append(number)
        new = sorted(set(numbers) - known.keys())
        idle = 0 if new else idle + 1
        known |= dict(zip(new, evaluate(new), strict=True)) if new else {}
        for trial, number in zip(trials, numbers, strict=True):
            study.tell(trial, list(known[number]))
    return sorted(known)
