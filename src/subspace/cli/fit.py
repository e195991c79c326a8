"""`subspace fit | validate | test`: training runs through LightningCLI."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)

from subspace.checkpoint import Checkpoint, load_checkpoint
from subspace.cli.arguments import make_folder
from subspace.datamodule import FactorData
from subspace.errors import ConfigError
from subspace.training import SeparationModule

# Lightning's warnings about what is meant to be so.
_EXPECTED = (
    # Batches are slices of a memory-mapped file: worker processes would only add copying.
    ".*does not have many workers.*",
    # They are the command line's own, or a caller's in Python; Lightning cannot tell.
    "LightningCLI's args parameter",
    # A run may be repeated, or resumed, into its own folder.
    "Checkpoint directory .* exists and is not empty",
    # Lightning uses a name that torch is about to drop.
    ".*isinstance.treespec, LeafSpec.*",
)


class _SaveSettings(SaveConfigCallback):
    """Keeps all settings of a fit beside its checkpoint."""

    def save_config(
        self,
        trainer: pl.Trainer,  # noqa: ARG002 (Lightning's signature)
        pl_module: pl.LightningModule,  # noqa: ARG002
        stage: str,
    ) -> None:
        if stage == "fit":
            output = make_folder(self.config.output)
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

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        # Here, because Lightning looks into the file next and has no words for what it may find.
        settings = self.config[self.config["subcommand"]]
        settings["ckpt_path"] = _find_checkpoint(
            settings["ckpt_path"],
            output=Path(settings["output"]),
            required=self.config["subcommand"] != "fit",
        )

    def before_fit(self) -> None:
        Checkpoint.check_target(make_folder(self.config["fit"]["output"]))
        self._read_without_pickle()
        if self.model.solver == "closed_form":
            self.trainer.fit_loop.max_epochs = 0

    def before_validate(self) -> None:
        self._read_without_pickle()

    def before_test(self) -> None:
        self._read_without_pickle()

    def _read_without_pickle(self) -> None:
        self.config_init[self.subcommand]["weights_only"] = True

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
    for message in _EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    try:
        _SubspaceCLI(
            SeparationModule,
            FactorData,
            args=list(arguments),
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_callback=_SaveSettings,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults={"logger": False, "devices": 1, "enable_model_summary": False},
            parser_kwargs={"prog": "subspace"},
        )
    except SystemExit as stop:
        if stop.code == 1:  # how Lightning ends after Ctrl-C, once its files are written
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error


def _find_checkpoint(path: str | None, *, output: Path, required: bool) -> str | None:
    """The file to go on from or to score, after a look into it; None to start anew.

    Raises:
        ConfigError: There is no such file, or one is required and none is named.
        CheckpointError: It cannot be read, or was not written by this package.
    """
    if path is None and required:
        raise ConfigError(
            "--ckpt_path is missing: say which checkpoint to score, a run's best.ckpt or last.ckpt "
            f"(such as {output / 'best.ckpt'})"
        )
    if path in ("best", "last"):  # Lightning knows only those of a fit in the same process
        file = output / f"{path}.ckpt"
        if path == "last" and not required and not file.exists():
            return None  # what may be interrupted can be started with it from the first time on
    elif path is None:
        return None
    else:
        file = Path(path)
    if not file.is_file():
        raise ConfigError(f"--ckpt_path: there is no file {file}")
    load_checkpoint(file)
    return str(file)


def _block_names(blocks: dict[str, int] | None) -> list[str] | None:
    return None if blocks is None else list(blocks)


def _sampling_seed(seed: Any) -> int:
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0
