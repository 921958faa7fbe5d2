"""What two ranks do in the test of compiling that fails on one of them; each is a process of its own."""

import hashlib
import warnings

import torch
from trainer.distributed import Ranks
from trainer.loop import Trainer


def fail(graph, inputs):
    """A compiler that is not there."""
    raise RuntimeError("no compiler was found")


def fail_in_backward(graph, inputs):
    """One that makes the forward pass, and fails when gradients are asked for."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    return aot_autograd(fw_compiler=lambda module, _: make_boxed_func(module), bw_compiler=fail)(graph, inputs)


BACKENDS = {"fail": fail, "fail_in_backward": fail_in_backward, "works": "aot_eager"}


def train_on_rank(number, stop, config, port, backends, folder):
    """Train with one of `BACKENDS` as rank `number`; write a digest of the weights, and what was warned of."""
    backend, compile_with = backends[number], torch.compile
    if backend != "none":
        torch.compile = lambda model: compile_with(model, backend=BACKENDS[backend])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Trainer(
            config, Ranks(number, len(backends), number, "localhost", port), folder / "run", "", stop
        ) as trainer:
            trainer.train()
            weights = b"".join(value.numpy().tobytes() for value in trainer.model.state_dict().values())
    (folder / f"digest{number}").write_text(hashlib.sha256(weights).hexdigest())
    said = [str(warning.message) for warning in caught if "torch.compile failed" in str(warning.message)]
    (folder / f"warnings{number}").write_text("\n".join(said))
