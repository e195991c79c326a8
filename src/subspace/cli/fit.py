"""`subspace fit | validate | test`: training runs through LightningCLI."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from subspace.checkpoint import load_checkpoint
from subspace.datamodule import FactorData
from subspace.training import SeparationModule


class _SaveSettings(SaveConfigCallback):
    """Keeps all settings of a fit beside its checkpoint."""

    def save_config(
        self,
        trainer: pl.Trainer,  # noqa: ARG002 (Lightning's signature)
        pl_module: pl.LightningModule,  # noqa: ARG002
        stage: str,
    ) -> None:
        if stage == "fit":
            output = Path(self.config.output)
            output.mkdir(parents=True, exist_ok=True)
            self.parser.save(self.config, output / "training.yaml", overwrite=True)


class _SubspaceCLI(LightningCLI):
    """Adds the output folder, and leaves it with a checkpoint to resume from and one to use."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--output",
            default="checkpoints/latest",
            help="Folder of the run: last.ckpt to resume from, best.ckpt, and the best projection "
            "to use (config.json, model.safetensors).",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/loss",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.enable_version_counter": False,
                "early_stopping.monitor": "val/loss",
                "early_stopping.patience": 5,
            }
        )
        parser.link_arguments("output", "checkpoint.dirpath")
        parser.link_arguments("model.blocks", "data.factors", compute_fn=_block_names)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_sampling_seed)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {
            name: skipped
            for name, skipped in LightningCLI.subcommands().items()
            if name in ("fit", "validate", "test")
        }

    def before_fit(self) -> None:
        if self.model.solver == "closed_form":
            self.trainer.fit_loop.max_epochs = 0

    def after_fit(self) -> None:
        output = Path(self.config["fit"]["output"])
        callback = self.trainer.checkpoint_callback
        best = callback.best_model_path if isinstance(callback, ModelCheckpoint) else ""
        if not best:  # no step was taken: the closed form itself
            best = str(output / "last.ckpt")
            self.trainer.save_checkpoint(best)
        if self.trainer.is_global_zero:
            load_checkpoint(best).save(output)
            print(f"checkpoint -> {output}")


def run_training(arguments: Sequence[str]) -> None:
    """Runs `fit`, `validate` or `test` with LightningCLI's arguments."""
    # Batches are slices of a memory-mapped file: worker processes would only add copying.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Ours are the command line's own, or a caller's in Python; Lightning cannot tell and warns.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    _SubspaceCLI(
        SeparationModule,
        FactorData,
        args=list(arguments),
        seed_everything_default=0,
        save_config_callback=_SaveSettings,
        save_config_kwargs={"save_to_log_dir": False},
        trainer_defaults={"logger": False, "accelerator": "auto", "devices": 1},
        parser_kwargs={"prog": "subspace"},
    )


def _block_names(blocks: dict[str, int] | None) -> list[str] | None:
    return None if blocks is None else list(blocks)


def _sampling_seed(seed: Any) -> int:
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0
