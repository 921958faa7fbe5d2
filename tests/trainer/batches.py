"""All that a source of batches gives in an epoch."""

import torch

__all__ = ["all_of"]


def all_of(source, resolution=32, epoch=0):
    """An epoch's images and its labels, as two tensors; closes the source."""
    batches = [(images.clone(), labels.clone()) for images, labels in source.epoch(epoch, resolution)]
    source.close()
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]
