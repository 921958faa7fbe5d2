"""No option is parsed and ignored: each names the test that shows its effect."""

import re
from pathlib import Path

from trainer.config import all_options

EFFECTS = {
    "model.arch": "test_network_has_the_asked_number_of_outputs",
    "model.pretrained": "test_pretrained_starts_from_imagenet_weights_with_a_last_layer_that_fits",
    "model.weights": "test_weights_file_is_loaded_also_when_it_was_saved_by_several_ranks",
    "model.new_last_layer": "test_weights_come_with_a_new_last_layer_where_one_is_asked_for",
    "model.zero_init": "test_residual_blocks_can_begin_as_the_identity",
    "resolution.schedule": "test_stages_change_images_and_batches_and_the_rate_follows",
    "resolution.min_res": "test_resolution_follows_its_schedule",
    "resolution.max_res": "test_resolution_follows_its_schedule",
    "resolution.end_ramp": "test_resolution_follows_its_schedule",
    "resolution.start_ramp": "test_resolution_grows_in_steps_of_32",
    "data.train_dataset": "test_missing_and_unfit_data_are_named",
    "data.val_dataset": "test_missing_and_unfit_data_are_named",
    "data.num_workers": "test_data_in_memory_decides_order_and_storage",
    "data.in_memory": "test_data_in_memory_decides_order_and_storage",
    "data.on_error": "test_damaged_training_image_ends_the_training_or_is_replaced",
    "data.source": "test_source_can_be_named",
    "data.classes": "test_number_of_classes_comes_from_names_then_labels_then_is_1000",
    "data.synthetic_images": "test_source_can_be_named",
    "data.synthetic_val_images": "test_made_up_validation_counts_every_image_once",
    "data.augmentation": "test_cifar_training_images_are_moved_and_mirrored_originals",
    "data.download": "test_cifar10_is_fetched_when_asked",
    "lr.step_ratio": "test_step_rate_falls_by_its_ratio_over_the_epoch_before_each_step",
    "lr.step_length": "test_step_rate_falls_by_its_ratio_over_the_epoch_before_each_step",
    "lr.lr_schedule_type": "test_step_rate_falls_by_its_ratio_over_the_epoch_before_each_step",
    "lr.lr": "test_optimizer_gets_rate_momentum_and_decay",
    "lr.lr_peak_epoch": "test_cyclic_rate_is_linear_through_its_three_points",
    "lr.milestones": "test_multistep_rate_is_torchs_with_one_value_an_epoch",
    "lr.pct_start": "test_one_cycle_rate_is_torchs_over_the_steps_that_the_batches_leave",
    "lr.final_lr": "test_cosine_rate_is_torchs_with_one_value_an_epoch",
    "lr.warmup_epochs": "test_warm_up_is_linear_from_0_to_the_course",
    "logging.folder": "test_run_folder_holds_params_log_weights_and_checkpoints",
    "logging.log_folder": "test_second_folder_holds_the_same_log_also_behind_a_break",
    "logging.log_level": "test_log_level_0_evaluates_once_at_the_end",
    "logging.tensorboard": "test_tensorboard_gets_the_numbers_of_the_log",
    "logging.wandb": "test_weights_and_biases_gets_the_numbers_where_it_is_set_up",
    "logging.wandb_project": "test_weights_and_biases_gets_the_numbers_where_it_is_set_up",
    "logging.curves": "test_curves_are_drawn_at_the_end",
    "logging.telemetry": "test_telemetry_is_sampled_and_its_means_are_logged",
    "validation.plain_resolution": "test_plain_evaluation_is_done_by_ffx_and_by_pillow",
    "logging.timings": "test_times_wait_for_a_gpu_only_when_asked",
    "logging.profile": "test_profile_is_a_chrome_trace_of_some_steps",
    "validation.batch_size": "test_validation_counts_every_image_once",
    "validation.resolution": "test_resolution_follows_its_schedule",
    "validation.lr_tta": "test_flip_at_validation_adds_the_outputs_of_the_mirror_image",
    "training.eval_only": "test_eval_only_evaluates_given_weights",
    "training.batch_size": "test_training_images_come_once_an_epoch_in_a_new_order",
    "training.optimizer": "test_optimizer_gets_rate_momentum_and_decay",
    "training.momentum": "test_optimizer_gets_rate_momentum_and_decay",
    "training.weight_decay": "test_optimizer_gets_rate_momentum_and_decay",
    "training.epochs": "test_log_has_a_line_for_each_epoch",
    "training.label_smoothing": "test_loss_is_smoothed_cross_entropy",
    "training.distributed": "test_two_ranks_train_one_model_and_count_every_image_once",
    "training.use_blurpool": "test_blurpool_stands_before_convolutions_with_a_stride",
    "training.seed": "test_same_seed_gives_the_same_weights_and_another_one_does_not",
    "training.flip": "test_flip_mirrors_about_half_of_the_training_images",
    "training.device": "test_each_local_rank_takes_a_gpu",
    "training.precision": "test_bf16_trains_on_a_processor",
    "training.resume": "test_resumed_training_gives_bit_identical_weights",
    "training.checkpoint_every": "test_checkpoints_come_every_so_many_epochs_and_at_the_end",
    "training.checkpoint_minutes": "test_checkpoints_come_by_time_in_the_middle_of_an_epoch",
    "training.allow_batch_change": "test_other_batch_of_all_ranks_needs_a_word",
    "training.nesterov": "test_sgd_is_torchs",
    "training.no_decay": "test_parameters_without_decay_are_those_asked_for",
    "training.grad_clip": "test_gradients_are_clipped_to_a_norm",
    "training.compile": "test_compiled_training_gives_the_same_weights_or_says_why_not",
    "training.channels_last": "test_memory_format_is_that_asked_for",
    "training.max_steps": "test_max_steps_ends_training_in_the_middle_of_an_epoch",
    "recipe.ema": "test_average_of_weights_and_batch_statistics_is_evaluated_and_kept",
    "recipe.loss": "test_binary_cross_entropy_asks_for_each_class_that_is_in_the_image",
    "recipe.mixup": "test_mixup_adds_the_image_before_with_its_share",
    "recipe.cutmix": "test_cutmix_pastes_a_rectangle_of_the_image_before",
    "recipe.stochastic_depth": "test_residual_blocks_are_left_out_the_more_often_the_later_they_come",
    "recipe.randaugment": "test_images_are_augmented_by_seed_epoch_and_image",
    "recipe.alternating_flip": "test_alternating_flip_mirrors_each_image_in_every_second_epoch",
    "data.cache_dir": "test_addresses_give_the_batches_of_the_files",
    "data.cache_gb": "test_the_caches_limit_reaches_the_loader",
    "dist.world_size": "test_two_ranks_train_one_model_and_count_every_image_once",
    "dist.address": "test_slurm_step_gives_ranks",
    "dist.port": "test_slurm_step_gives_ranks",
    "dist.url": "test_ranks_meet_at_a_given_address_by_a_given_backend",
    "dist.backend": "test_ranks_meet_at_a_given_address_by_a_given_backend",
    "logging.print_every": "test_lines_of_steps_are_those_of_their_batches",
    "logging.export_folder": "test_newest_and_best_checkpoint_are_exported_and_gone_on_with",
    "training.start_epoch": "test_training_begins_with_a_given_epoch",
}


def test_every_option_has_a_test_of_its_effect():
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    tests = set(re.findall(r"^def (test_\w+)", "\n".join(texts), re.MULTILINE))
    assert EFFECTS.keys() == {option.name for option in all_options()}
    assert set(EFFECTS.values()) <= tests


def test_documentation_lists_every_option_with_its_default():
    text = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()
    table = text.partition("<!-- options -->\n")[2].partition("<!-- end")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    plain = {True: "1", False: "0"}
    assert rows == [
        [o.name, plain.get(o.default, str(o.default)) if isinstance(o.default, bool) else str(o.default), o.help]
        for o in all_options()
    ]
