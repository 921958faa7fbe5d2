"""The loader: a file, an order, pipelines; iterating over it gives an epoch's batches."""

from __future__ import annotations

import functools
import operator
import os
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto, unique
from typing import Any

import numpy as np
import torch

from ..errors import FfxWarning, LoaderError, PipelineError
from ..fields.base import Field
from ..format import has_pointers
from ..kernels.checksum import xxh64
from ..kernels.cores import usable_cores
from ..memory_managers import MemoryContext, MemoryManager, OSCacheManager, ProcessCacheManager, RemoteCacheManager
from ..memory_managers.base import check_length
from ..pipeline.graph import Graph
from ..pipeline.operation import FileRange, Operation
from ..pipeline.pipeline_spec import PipelineSpec
from ..pipeline.plan import Kind, Plan, Schedule
from ..reader import Reader
from ..remote import RemoteOptions
from ..traversal_order import QuasiRandom, Random, Sequential
from ..traversal_order.base import Share, TraversalOrder, rank_and_world
from .damage import ON_ERROR, Culprit, Mending
from .device import CudaLink, HostLink, link_to
from .epoch_iterator import EpochIterator
from .progress import Progress, Tracker, pack_state, unpack_state
from .resident import resident_data
from .slots import SlotPool
from .specs import complete_specs
from .verification import VERIFY_MODES, Verification

__all__ = ["DEFAULT_OS_CACHE", "ORDER_MAP", "ORDER_TYPE", "Loader", "OrderOption"]


@unique
class OrderOption(Enum):
    """In which order samples come.

    SEQUENTIAL: as in the file. RANDOM: a new permutation each epoch. QUASI_RANDOM: random among few
    pages at a time, for files that are larger than memory (with `os_cache=False`).
    """

    SEQUENTIAL = auto()
    RANDOM = auto()
    QUASI_RANDOM = auto()


ORDER_TYPE = OrderOption | TraversalOrder | type[TraversalOrder]

ORDER_MAP: dict[OrderOption, type[TraversalOrder]] = {
    OrderOption.SEQUENTIAL: Sequential,
    OrderOption.RANDOM: Random,
    OrderOption.QUASI_RANDOM: QuasiRandom,
}

DEFAULT_OS_CACHE: bool = not int(os.environ.get("FFX_DEFAULT_CACHE_PROCESS", "0"))


class Loader:
    """Loads batches from a `.beton` file; takes FFCV's place with the same arguments.

    Args:
        fname: path of the file, written by ffx or by FFCV; or its address (`https://`, `s3://`, `osdf://`, …): it is
            fetched by ranges, ahead of the batches, into a cache on the local disk.
        batch_size: samples a batch.
        num_workers: threads that decode; below 1: as many as this process may use cores.
        os_cache: map the file and leave caching to the operating system (right for files that fit
            into memory, and shared by all processes); False: read pages ahead into own memory. A file behind
            an address is read from its cached copy either way.
        order: an `OrderOption`, or a class derived from `TraversalOrder`.
        distributed: share the samples among the ranks of torch's process group, each sample exactly
            once an epoch.
        seed: of the order and of all augmentations; `None` draws one (0 when distributed, since all
            ranks need the same).
        indices: samples to use, `None`: all. One that stands there twice comes twice an epoch.
        pipelines: by name, a sequence of operations, a `PipelineSpec`, or `None` to leave a field out.
            A field that is not mentioned gets its default decoder and `ToTensor`.
        custom_fields: class of each field of a type of its own, by field name.
        drop_last: leave out a last batch that is not full.
        batches_ahead: finished batches that may wait; two more are in memory.
        recompile: generate and compile the operations' functions anew each epoch.
        order_kwargs: further arguments for the order's class.
        verify: when a sample's bytes are compared with the checksum that their writer stored: `"first"` (each
            sample once a process), `"always"` or `"never"`. Files of FFCV's have no checksums.
        on_error: what is done with a sample that differs from its checksum or that its decoder refuses. `"raise"`;
            `"skip"`: its batch is shorter (or missing), so ranks may get out of step; `"substitute"`: another
            sample, with its own label, comes in its place, the same one on any rank.
        remote: how a file behind an address is read and kept (`ffx.RemoteOptions`).

    Attributes:
        batch_size: may be set between epochs; an iterator keeps the one that it began with.
        culprits: the samples that were skipped or replaced in the batches so far (`Culprit`), in order. Each is
            logged as well (`logging.getLogger("ffx.loader")`, as a warning).

    Raises:
        FormatError: when the file is not valid.
        RemoteError: an address cannot be reached, or what reads such addresses is not installed.
        PipelineError: when a pipeline cannot be built.

    Iterating gives tuples: one entry a field in the file's order, then one for each derived pipeline.
    Every random number depends on the seed, the epoch, the sample and the operation alone, so one seed
    gives the same batches for any number of workers (other people's operations aside that draw from
    generators of their own: those are seeded from the batch).
    """

    def __init__(
        self,
        fname: str | os.PathLike,
        batch_size: int,
        num_workers: int = -1,
        os_cache: bool = DEFAULT_OS_CACHE,
        order: ORDER_TYPE = OrderOption.SEQUENTIAL,
        distributed: bool = False,
        seed: int | None = None,
        indices: Sequence[int] | None = None,
        pipelines: Mapping[str, Sequence[Operation | torch.nn.Module] | PipelineSpec | None] | None = None,
        custom_fields: Mapping[str, type[Field]] | None = None,
        drop_last: bool = True,
        batches_ahead: int = 3,
        recompile: bool = False,
        order_kwargs: Mapping[str, Any] | None = None,
        *,
        verify: str = "first",
        on_error: str = "raise",
        remote: RemoteOptions | None = None,
    ) -> None:
        self._args = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.batch_size = batch_size
        self.num_workers = num_workers if num_workers >= 1 else usable_cores()
        self.batches_ahead = _at_least_one("batches_ahead", batches_ahead)
        self.distributed = bool(distributed)
        self.drop_last = bool(drop_last)
        self.recompile = bool(recompile)
        self.seed = self._args["seed"] = self._chosen_seed(seed)
        self.next_epoch = 0
        self.on_error = _one_of("on_error", on_error, ON_ERROR)
        self.culprits: list[Culprit] = []
        self.reader = Reader(fname, dict(custom_fields or {}), remote)
        self.fname = self.reader.file_name
        self.indices = self._checked_indices(indices)
        self.memory_manager = self._make_storage(os_cache)
        self.traversal_order = self._make_order(order, dict(order_kwargs or {}))
        self.field_name_to_f_ix = {name: number for number, name in enumerate(self.reader.handlers)}
        self.pipeline_specs = complete_specs(pipelines or {}, self.reader.handlers)
        self.graph = Graph(
            self.pipeline_specs,
            self.reader.handlers,
            self.field_name_to_f_ix,
            self.reader.metadata,
            self.memory_manager.compile_reader(),
        )
        self.plan = Plan(self.graph)
        # Mistakes in a pipeline show here, not in a thread at the first epoch.
        schedule = self.plan.schedule(self.seed, 0)
        self._refuse_substitutes_out_of_reach(schedule)
        self.file_data: dict[FileRange, torch.Tensor] = {}
        self.keep_on_devices(schedule)
        self.verification = self._make_verification(verify)
        if isinstance(self.memory_manager, RemoteCacheManager):
            self.memory_manager.on_damage = self.verification.forget
        self.slot_pool = SlotPool()
        self._links: dict[torch.device | None, HostLink | CudaLink] = {}
        self._order_length: int | None = None
        self._tracker = Tracker(Progress(0))
        self._resume: Progress | None = None
        self._warn_of_dropped_samples(order)

    def _make_storage(self, os_cache: bool) -> MemoryManager:
        if self.reader.remote is not None:
            return RemoteCacheManager(self.reader)
        return OSCacheManager(self.reader) if os_cache else ProcessCacheManager(self.reader)

    def _chosen_seed(self, seed: int | None) -> int:
        if seed is not None:
            return int(seed)
        if self.distributed:
            warnings.warn("distributed=True without a seed: using 0, since all ranks need the same", FfxWarning, 3)
            return 0
        return secrets.randbits(31)

    def _checked_indices(self, indices: Sequence[int] | None) -> np.ndarray:
        count = int(self.reader.num_samples)
        if indices is None:
            return np.arange(count, dtype=np.uint64)
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
            raise LoaderError(f"expected indices as a list of integers, found {chosen.dtype} of shape {chosen.shape}")
        if chosen.size and (int(chosen.min()) < 0 or int(chosen.max()) >= count):
            raise LoaderError(
                f"{self.fname}: expected indices from 0 to {count - 1}, found {chosen.min()} to {chosen.max()}"
            )
        return chosen.astype(np.uint64)

    def _make_order(self, order: ORDER_TYPE, arguments: dict[str, Any]) -> TraversalOrder:
        if isinstance(order, OrderOption):
            return ORDER_MAP[order](self, **arguments)
        if isinstance(order, type) and issubclass(order, TraversalOrder):
            return order(self, **arguments)
        if isinstance(order, TraversalOrder):
            return order
        raise LoaderError(f"expected an OrderOption or a TraversalOrder as order, found {order!r}")

    @property
    def batch_size(self) -> int:
        """Samples a batch."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, samples: int) -> None:
        self._batch_size = self._args["batch_size"] = _at_least_one("batch_size", samples)

    def _warn_of_dropped_samples(self, order: ORDER_TYPE) -> None:
        remainder = len(self.indices) % self.batch_size
        if self.drop_last and order is OrderOption.SEQUENTIAL and remainder:
            warnings.warn(
                f"{self.fname}: drop_last=True leaves the last {remainder} samples out of every epoch, always the same "
                "in this order: pass drop_last=False to get them all",
                FfxWarning,
                stacklevel=3,
            )

    def next_traversal_order(self) -> np.ndarray:
        """The samples of the coming epoch (of this rank), in order."""
        return np.asarray(self.traversal_order.sample_order(self.next_epoch))

    def __len__(self) -> int:
        """Batches an epoch (of this rank)."""
        if self._order_length is None:
            self._order_length = len(self.next_traversal_order())
        samples = self._order_length
        if self.drop_last:
            world = _world_size() if self.distributed else 1
            # All ranks must make the same number of steps.
            samples = min(samples, len(self.indices) // world) if world > 1 else samples
            return samples // self.batch_size
        return (samples + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> EpochIterator:
        check_length(self.reader)
        resume, self._resume = self._resume, None
        # Whoever has set another epoch since wants that one.
        start = resume if resume is not None and resume.epoch == self.next_epoch else Progress(self.next_epoch)
        self.next_epoch += 1
        share = self.traversal_order.share(start.epoch, start.legs)
        if not start.legs:
            self._order_length = len(share.order)
        order, occurrences = self._whole_batches(share)
        if self.recompile:
            self.plan.recompile()
        ranks = rank_and_world()[1] if self.distributed else 1
        self._tracker = Tracker(start, ranks)
        done = sum(samples for _, samples in start.legs)
        return EpochIterator(self, order, occurrences, start.epoch, done // self.batch_size, self._tracker)

    def _whole_batches(self, share: Share) -> tuple[np.ndarray, np.ndarray | None]:
        """A share as it is cut into batches: without the last samples if they are to be dropped."""
        if not self.drop_last:
            return share.order, share.occurrences
        # All ranks must make the same number of steps.
        count = share.smallest // self.batch_size * self.batch_size
        return share.order[:count], None if share.occurrences is None else share.occurrences[:count]

    def state_dict(self) -> dict[str, Any]:
        """How far the consumer has come: behind the batch that the newest iterator gave last.

        A few numbers, made in constant time (but for the first call, which looks through the file's tables). Kept in a
        checkpoint and given to `load_state_dict` of a loader of the same file, in any process and with any number of
        ranks or workers, they give the rest of the epoch: each sample once, and all that ffx draws (order, crops,
        flips, …) as in the run that was not interrupted.
        """
        return pack_state(self._tracker.progress, self.seed, self._about())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a loader was when it made `state`: the next iterator gives what was left of its epoch.

        The seed becomes that of the state (an order of your own must ask for its `seed` when it draws). Behind the last
        batch of an epoch the next iterator gives none.

        Raises:
            LoaderError: `state` is none, or was made with another file, other indices or another order.
        """
        progress, self.seed = unpack_state(state, self._about())
        self._args["seed"] = self.traversal_order.seed = self.seed
        self.next_epoch = progress.epoch
        self._tracker, self._resume = Tracker(progress), progress

    @functools.cached_property
    def _file_digest(self) -> str:
        index = self.reader.index
        parts = (index.alloc_table, index.metadata, self.indices)
        return "-".join(f"{xxh64(np.ascontiguousarray(part).view(np.uint8)):016x}" for part in parts)

    def _about(self) -> dict[str, Any]:
        return {"file": self._file_digest, "order": self.traversal_order.description}

    def replay(self, epoch: int, step: int) -> tuple:
        """Batch number `step` of an epoch (of this rank), made again: what iterating gave, or would give.

        The resolution, and whatever else operations were set to since, is that of now; the number of ranks, too.

        Raises:
            LoaderError: there is no such batch, or none of its samples can be used (with `on_error="skip"`).
        """
        check_length(self.reader)
        epoch, step = operator.index(epoch), operator.index(step)
        order, occurrences = self._whole_batches(self.traversal_order.share(max(epoch, 0)))
        place = slice(max(step, 0) * self.batch_size, (max(step, 0) + 1) * self.batch_size)
        if epoch < 0 or step < 0 or not len(order[place]):
            batches = -(-len(order) // self.batch_size)
            raise LoaderError(f"expected an epoch from 0 on and a step from 0 to {batches - 1}, found {epoch}, {step}")
        chosen = None if occurrences is None else occurrences[place]
        with EpochIterator(self, order[place], chosen, epoch, step) as batches_again:
            batch = next(batches_again, None)
        if batch is None:
            raise LoaderError(f"{self.fname}: batch {step} of epoch {epoch} has no sample that can be used")
        return batch

    def mending(
        self, schedule: Schedule, has_check: bool, epoch: int, first_batch: int, context: MemoryContext
    ) -> Mending:
        """What an epoch does with samples that cannot be used."""
        fields = [step.node.field_name for step in schedule.front]
        return Mending(
            self.on_error,
            self.reader,
            [None, *fields] if has_check else fields,
            self.indices,
            self.seed,
            epoch,
            first_batch,
            self.memory_manager.maps_whole_file,
            context,
        )

    def _refuse_substitutes_out_of_reach(self, schedule: Schedule) -> None:
        """Generated decoders read the pages of their batch, on which a substitute need not be."""
        if self.on_error != "substitute" or self.memory_manager.maps_whole_file:
            return
        for step in schedule.tail:
            if step.kind is not Kind.NATIVE and step.node.parent is None:
                raise PipelineError(
                    f"{step.node.label}: expected ffx's own decoder for on_error='substitute' with os_cache=False, "
                    "found one with its own code, which cannot read samples of other pages: use os_cache=True, or "
                    "on_error='skip'"
                )

    def _make_verification(self, mode: str) -> Verification:
        """The check of what is read; where no field that is wanted has stored bytes, there is nothing to check."""
        index = self.reader.index
        chosen = _one_of("verify", mode, VERIFY_MODES)
        fields = {leaf.field_name for leaf in self.graph.leaves.values()}
        mode = chosen if any(has_pointers(index, name) for name in fields) else "never"
        return Verification(index, mode, may_forget=self.reader.remote is not None)

    def link(self, device: torch.device | None) -> HostLink | CudaLink:
        """The way to a device, the same one each epoch: memory that torch keeps for its stream is used again."""
        if device not in self._links:
            self._links[device] = link_to(device)
        return self._links[device]

    def keep_on_devices(self, schedule: Schedule) -> dict[FileRange, torch.Tensor]:
        """What of the file a schedule's operations want in a device's memory; uploaded where it isn't there yet.

        Raises:
            LoaderError: it does not fit.
        """
        wanted = [step.declaration.file_range for step in schedule.steps if step.declaration.file_range is not None]
        if not all(one in self.file_data for one in wanted):
            self.file_data = resident_data(self.reader, wanted)
        return self.file_data

    def filter(self, field_name: str, condition: Callable[[Any], bool]) -> Loader:
        """A loader of the samples whose decoded `field_name` satisfies `condition`.

        Goes through this loader's samples once. The new loader's `indices` are the samples' indices in
        the file.

        Raises:
            PipelineError: when the file has no such field.
        """
        if field_name not in self.reader.handlers:
            raise PipelineError(f"{self.fname}: no field {field_name!r}; there are {', '.join(self.reader.handlers)}")
        pipelines: dict[str, Any] = dict.fromkeys(self.reader.handlers)
        given = dict(self._args["pipelines"] or {})
        if given.get(field_name) is not None:
            pipelines[field_name] = given[field_name]
        else:
            del pipelines[field_name]
        arguments = {
            **self._args,
            "pipelines": pipelines,
            "order": OrderOption.SEQUENTIAL,
            "distributed": False,
            "drop_last": False,
            "order_kwargs": None,
            "on_error": "raise",
        }
        with Loader(**arguments) as values:
            kept = [bool(condition(sample)) for (batch,) in values for sample in batch]
        chosen = self.indices[np.asarray(kept, dtype=bool)]
        return Loader(**{**self._args, "indices": chosen})

    def close(self) -> None:
        """Give the loader's memory back and unmap the file. Safe to call twice."""
        self.slot_pool.clear()
        self.file_data.clear()
        close = getattr(self.memory_manager, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _at_least_one(name: str, value: int) -> int:
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if isinstance(value, bool) or whole != value or whole < 1:
        raise LoaderError(f"expected {name} to be a whole number of at least 1, found {value!r}")
    return whole


def _world_size() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise LoaderError(f"{name}: expected one of {', '.join(map(repr, known))}, found {value!r}")
    return value
