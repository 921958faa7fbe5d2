"""What two ranks do in the test of an evaluation that fails on one of them; each is a process of its own."""

from trainer.distributed import Ranks
from trainer.errors import DataError, TrainingError
from trainer.loop import Trainer


def evaluate_on_rank(number, stop, config, port, folder):
    """Evaluate twice, the first time with an image that the second rank cannot read; write down what came of both."""
    said = []
    with Trainer(config, Ranks(number, 2, number, "localhost", port), folder / "run", "", stop) as trainer:
        source, epoch = trainer.validation_source, trainer.validation_source.epoch

        def failing(*arguments):
            for count, batch in enumerate(epoch(*arguments)):
                if count == 1:
                    raise DataError("an image is damaged")
                yield batch

        for broken in (number == 1, False):
            source.epoch = failing if broken else epoch
            try:
                said.append(f"top-1 {trainer.validate().top_1:.6f}")
            except (DataError, TrainingError) as error:
                said.append(str(error))
    (folder / f"said{number}").write_text("\n".join(said))
