import warnings

import numpy as np
import pytest
import torch
from trainer.config import LearningRateConfig, ResolutionConfig, RunConfig
from trainer.errors import ConfigurationError
from trainer.schedule import EpochSizes, epoch_learning_rates, learning_rate, resolution_of_epoch, sizes_of_epoch


def test_last_rates_of_an_epoch_equal_those_of_ffcv():
    config = LearningRateConfig(lr=1.7, lr_peak_epoch=2)
    rates = [epoch_learning_rates(config, [312] * 16, epoch, 312)[-1] for epoch in range(3)]
    # Known to the last digits; another order of the same additions differs by units of 2e-16.
    assert rates == pytest.approx([0.8473609134615385, 1.697275913461538, 1.578960622710622], rel=4e-16, abs=0)


@pytest.mark.parametrize("peak_epoch", [1, 2, 5, 16])
def test_cyclic_rate_is_linear_through_its_three_points(peak_epoch):
    config = LearningRateConfig(lr=0.5, lr_peak_epoch=peak_epoch)
    epochs = np.linspace(0, 16, 65)
    expected = np.interp(epochs, [0, peak_epoch, 16], [0.5e-4, 0.5, 0])
    assert [learning_rate(config, 16, epoch) for epoch in epochs] == pytest.approx(expected)


def test_rate_is_linear_inside_an_epoch_and_continuous_between_epochs():
    config = LearningRateConfig(lr=0.5, lr_peak_epoch=2)
    rates = np.concatenate([epoch_learning_rates(config, [10] * 4, epoch, 10) for epoch in range(4)])
    assert rates == pytest.approx(np.interp(np.arange(40) / 10, [0, 2, 4], [0.5e-4, 0.5, 0]))


def test_rate_without_a_rise_begins_at_its_peak():
    config = LearningRateConfig(lr=0.5, lr_peak_epoch=0)
    assert epoch_learning_rates(config, [4], 0, 4) == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_rate_only_rises_when_training_ends_before_the_peak():
    config = LearningRateConfig(lr=0.5, lr_peak_epoch=2)
    rates = epoch_learning_rates(config, [100], 0, 100)
    assert rates[0] == 0.5e-4
    assert np.all(np.diff(rates) > 0)
    assert rates[-1] == pytest.approx(0.2475, abs=1e-3)


def test_step_rate_falls_by_its_ratio_over_the_epoch_before_each_step():
    config = LearningRateConfig(lr=1, lr_schedule_type="step", step_ratio=0.1, step_length=3)
    assert [learning_rate(config, 7, epoch) for epoch in range(8)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0])
    assert epoch_learning_rates(config, [2] * 7, 1, 2).tolist() == [1, 1]
    assert epoch_learning_rates(config, [2] * 7, 2, 2) == pytest.approx([1, 0.55])


@pytest.mark.parametrize(
    "start, end, sides",
    [
        (0, 0, {0: 160, 1: 196}),
        (11, 13, {0: 160, 11: 160, 12: 192, 13: 196, 15: 196}),
        # 160 + 36 (epoch - 65) / 11, to a multiple of 32: 192 from 176 on.
        (65, 76, {65: 160, 66: 160, 69: 160, 70: 192, 75: 192, 76: 196}),
    ],
)
def test_resolution_grows_in_steps_of_32(start, end, sides):
    config = ResolutionConfig(min_res=160, max_res=196, start_ramp=start, end_ramp=end)
    assert {epoch: resolution_of_epoch(config, epoch) for epoch in sides} == sides


def test_constant_resolution_needs_no_ramp():
    config = ResolutionConfig(min_res=100, max_res=100)
    assert {resolution_of_epoch(config, epoch) for epoch in range(5)} == {100}


def rates_of(config, steps_by_epoch):
    epochs = enumerate(steps_by_epoch)
    return np.concatenate([epoch_learning_rates(config, steps_by_epoch, epoch, steps) for epoch, steps in epochs])


def rates_of_torch(kind, rate, steps, **arguments):
    """The rates that one of torch's schedulers gives to `steps` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = kind(optimizer, **arguments)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warnings.catch_warnings():
            # One step more than a cycle has.
            warnings.simplefilter("ignore")
            if len(rates) < steps:
                scheduler.step()
    return rates


@pytest.mark.parametrize("milestones", ["30,60,80", "1", "2,3,7"])
def test_multistep_rate_is_torchs_with_one_value_an_epoch(milestones):
    config = LearningRateConfig(lr=0.2, lr_schedule_type="multistep", milestones=milestones, step_ratio=0.3)
    milestones = [int(epoch) for epoch in milestones.split(",")]
    expected = rates_of_torch(torch.optim.lr_scheduler.MultiStepLR, 0.2, 90, milestones=milestones, gamma=0.3)
    assert rates_of(config, [3] * 90) == pytest.approx(np.repeat(expected, 3), rel=1e-12)


@pytest.mark.parametrize("final", [0.0, 0.01])
def test_cosine_rate_is_torchs_with_one_value_an_epoch(final):
    config = LearningRateConfig(lr=0.4, lr_schedule_type="cosine", final_lr=final)
    expected = rates_of_torch(torch.optim.lr_scheduler.CosineAnnealingLR, 0.4, 18, T_max=18, eta_min=final)
    assert rates_of(config, [2] * 18) == pytest.approx(np.repeat(expected, 2), rel=1e-9)


@pytest.mark.parametrize("steps_by_epoch", [[10] * 9, [4, 4, 6, 6, 12, 24], [7]])
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_one_cycle_rate_is_torchs_over_the_steps_that_the_batches_leave(steps_by_epoch, share):
    config = LearningRateConfig(lr=0.1, lr_schedule_type="onecycle", pct_start=share, final_lr=0.001)
    first = 1e-13
    expected = rates_of_torch(
        torch.optim.lr_scheduler.OneCycleLR,
        0.1,
        sum(steps_by_epoch),
        max_lr=0.1,
        total_steps=sum(steps_by_epoch),
        pct_start=share,
        cycle_momentum=False,
        div_factor=0.1 / first,
        final_div_factor=first / 0.001,
    )
    assert rates_of(config, steps_by_epoch) == pytest.approx(expected, abs=1e-12)


def test_what_is_left_of_an_epoch_goes_on_with_the_rates_of_the_whole():
    for kind in ("cyclic", "step", "multistep", "cosine", "onecycle"):
        config = LearningRateConfig(lr=0.5, lr_schedule_type=kind, lr_peak_epoch=1, step_length=1, milestones="1,2")
        whole = epoch_learning_rates(config, [8] * 3, 1, 8)
        assert epoch_learning_rates(config, [8] * 3, 1, 5, done=3 / 8) == pytest.approx(whole[3:])


@pytest.mark.parametrize("kind", ["step", "multistep", "cosine"])
def test_warm_up_is_linear_from_0_to_the_course(kind):
    course = rates_of(LearningRateConfig(lr=2, lr_schedule_type=kind), [4] * 6)
    warmed = rates_of(LearningRateConfig(lr=2, lr_schedule_type=kind, warmup_epochs=2), [4] * 6)
    assert warmed == pytest.approx(course * np.minimum(1, np.arange(24) / 8))


@pytest.mark.parametrize("kind", ["cyclic", "onecycle"])
def test_schedules_that_rise_by_themselves_take_no_warm_up(kind, tiny):
    with pytest.raises(ConfigurationError, match=f"{kind} has a rise of its own"):
        tiny(**{"lr.warmup_epochs": 1, "lr.lr_schedule_type": kind})


def test_stages_decide_side_and_batch():
    resolution = ResolutionConfig(schedule="0,128,512; 5,160 ;10, 192,320;")
    assert resolution.schedule == "0,128,512;5,160;10,192,320"
    sizes = [sizes_of_epoch(resolution, RunConfig(batch_size=100), epoch) for epoch in (0, 4, 5, 9, 10, 99)]
    first, second, third = EpochSizes(128, 512), EpochSizes(160, 100), EpochSizes(192, 320)
    assert sizes == [first, first, second, second, third, third]


WRONG_STAGES = ["5,160,384", "0,128,512;0,160,384", "5,1,1;0,1,1", "0", "0,0,4", "0,32,0", "0,3,1,1", "a,b", "0,3.5,1"]


@pytest.mark.parametrize("text", [*WRONG_STAGES, "-1,3,3"])
def test_stages_that_are_none_are_refused(text):
    with pytest.raises(ConfigurationError, match=r"expected 'epoch,side,batch;...' in rising epochs from 0"):
        ResolutionConfig(schedule=text)


@pytest.mark.parametrize("text", ["", "0", "3,2", "2,2", "a"])
def test_milestones_that_are_none_are_refused(text):
    with pytest.raises(ConfigurationError, match="expected epochs in rising order"):
        LearningRateConfig(milestones=text)
