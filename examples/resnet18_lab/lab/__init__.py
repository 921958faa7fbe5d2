"""The ResNet-18 lab: flags, what they mean to the trainer, experiments, tables."""
