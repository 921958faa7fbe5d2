import numpy as np
import pytest
from trainer.config import LearningRateConfig, ResolutionConfig
from trainer.schedule import epoch_learning_rates, learning_rate, resolution_of_epoch


def test_last_rates_of_an_epoch_equal_those_of_ffcv():
    config = LearningRateConfig(lr=1.7, lr_peak_epoch=2)
    rates = [epoch_learning_rates(config, 16, epoch, 312)[-1] for epoch in range(3)]
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
    rates = np.concatenate([epoch_learning_rates(config, 4, epoch, 10) for epoch in range(4)])
    assert rates == pytest.approx(np.interp(np.arange(40) / 10, [0, 2, 4], [0.5e-4, 0.5, 0]))


def test_rate_without_a_rise_begins_at_its_peak():
    config = LearningRateConfig(lr=0.5, lr_peak_epoch=0)
    assert epoch_learning_rates(config, 1, 0, 4) == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_rate_only_rises_when_training_ends_before_the_peak():
    config = LearningRateConfig(lr=0.5, lr_peak_epoch=2)
    rates = epoch_learning_rates(config, 1, 0, 100)
    assert rates[0] == 0.5e-4
    assert np.all(np.diff(rates) > 0)
    assert rates[-1] == pytest.approx(0.2475, abs=1e-3)


def test_step_rate_falls_by_its_ratio_over_the_epoch_before_each_step():
    config = LearningRateConfig(lr=1, lr_schedule_type="step", step_ratio=0.1, step_length=3)
    assert [learning_rate(config, 7, epoch) for epoch in range(8)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0])
    assert epoch_learning_rates(config, 7, 1, 2).tolist() == [1, 1]
    assert epoch_learning_rates(config, 7, 2, 2) == pytest.approx([1, 0.55])


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
