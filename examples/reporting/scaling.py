"""Speed-up and efficiency, of strong and of weak scaling, from times of epochs or of whole trainings.

Strong scaling: the same data on more GPUs. Speed-up = T(1) / T(N), at best N; efficiency = speed-up / N, at best 1.
Weak scaling: N times the data on N GPUs. Efficiency = T(1) / T(N, N times the data), at best 1; scaled speed-up = N
times that, at best N. Where a weak epoch has not been measured, it is N times the strong one: the same steps, N times
as many.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Scaling", "Times", "hours_minutes_seconds", "scaling_of"]

# Seconds of an epoch on the whole data set, by images a batch and GPU and by GPUs.
Times = dict[int, dict[int, float]]


@dataclass(frozen=True)
class Scaling:
    """How much faster N GPUs are than one, at the same batch a GPU.

    Attributes:
        batch_size: images a GPU.
        gpus: N.
        seconds: of an epoch of the whole data set.
        speed_up, efficiency: of strong scaling.
        weak_seconds: of an epoch of N times the data.
        weak_efficiency, scaled_speed_up: of weak scaling.
        is_measured: whether `weak_seconds` was.
    """

    batch_size: int
    gpus: int
    seconds: float
    speed_up: float
    efficiency: float
    weak_seconds: float
    weak_efficiency: float
    scaled_speed_up: float
    is_measured: bool


def scaling_of(times: Times, weak_times: Times | None = None) -> list[Scaling]:
    """All figures of all batches that one GPU has trained with.

    Args:
        times: of the whole data set.
        weak_times: of N times the data on N GPUs, where they have been measured.
    """
    found = []
    for batch_size, by_gpus in sorted(times.items()):
        one = by_gpus.get(1)
        for gpus, seconds in sorted(by_gpus.items()) if one is not None else ():
            measured = (weak_times or {}).get(batch_size, {}).get(gpus)
            weak = gpus * seconds if measured is None else measured
            found.append(
                Scaling(
                    batch_size=batch_size,
                    gpus=gpus,
                    seconds=seconds,
                    speed_up=one / seconds,
                    efficiency=one / seconds / gpus,
                    weak_seconds=weak,
                    weak_efficiency=one / weak,
                    scaled_speed_up=gpus * one / weak,
                    is_measured=measured is not None,
                )
            )
    return found


def hours_minutes_seconds(seconds: float) -> str:
    """`36:01:26`, with as many hours as there are."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}"
