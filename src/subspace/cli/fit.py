"""`subspace fit | validate | test`: training runs through LightningCLI."""

import logging
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import yaml
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

from subspace.cli.arguments import make_folder
from subspace.errors import ConfigError
from subspace.fitting.linear_head_fit import fit_probes
from subspace.fitting.stored_pairs import StoredPairs
from subspace.model import Checkpoint, load_checkpoint
from subspace.training.data_module import FactorData
from subspace.training.module import SeparationModule

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

# What `--help` says before and after the keys, by subcommand.
_HELP = {
    "fit": {
        "description": "Trains the blocks on labelled texts, from a YAML file: stores their "
        "embeddings, solves the closed form, takes the steps that the solver asks for, and "
        "leaves a folder to use and a file to resume from. Keys of the file are options too "
        "(docs/reference-yaml.md).",
        "epilog": "example: subspace fit --config configs/demo.yaml --seed_everything 1",
    },
    "validate": {
        "description": "Prints the losses of a trained checkpoint on validation texts.",
        "epilog": "example: subspace validate --config configs/demo.yaml --ckpt_path best",
    },
    "test": {
        "description": "Prints the losses of a trained checkpoint on test texts.",
        "epilog": "example: subspace test --config configs/demo.yaml --ckpt_path best",
    },
}

# Blocks from fewer queries than this do badly on others.
_FEW_QUERIES = 100


class _SaveSettings(SaveConfigCallback):
    """Keeps all settings of a fit beside its checkpoint, and tells them to its loggers."""

    def save_config(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002 (Lightning's signature)
        stage: str,
    ) -> None:
        if stage == "fit":
            output = make_folder(self.config.output)
            self.parser.save(self.config, output / "training.yaml", overwrite=True)
            settings = yaml.safe_load((output / "training.yaml").read_text(encoding="utf-8"))
            for logger in trainer.loggers:
                logger.log_hyperparams(settings)


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

    def before_instantiate_classes(self) -> None:
        logger = str(self.config[self.config["subcommand"]]["trainer"]["logger"])
        if "TensorBoardLogger" in logger and find_spec("tensorboard") is None:
            raise ConfigError(
                "trainer.logger asks for TensorBoard, which is not installed; run: "
                "pip install 'subspace[tensorboard]'"
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
            checkpoint = load_checkpoint(best)
            checkpoint.save(output)
            data = self.datamodule
            fit_probes(checkpoint.projection, data.sources, vectors=data.vectors).save(output)
            _tell_pairs(data.pairs)
            print(f"checkpoint -> {output}")
            known = shlex.quote(str(output))
            print(f"next: subspace index --checkpoint {known} --input F.jsonl --output runs/index")
            self._log_separation(checkpoint)

    def _log_separation(self, checkpoint: Checkpoint) -> None:
        if not self.trainer.loggers:
            return
        # Costs a second: only where there is a logger.
        from subspace.cli.fit_logging import log_separation, measure_on_validation

        matrix = measure_on_validation(
            checkpoint.projection,
            sources=self.datamodule.sources,
            vectors=self.datamodule.vectors,
            raw=checkpoint.fingerprint.last_layer,
        )
        step = self.trainer.global_step
        log_separation(matrix, loggers=self.trainer.loggers, step=step)


def run_training(arguments: Sequence[str]) -> None:
    """Runs `fit`, `validate` or `test` with LightningCLI's arguments."""
    for message in _EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # W&B would report errors of its own to its makers, unless it is told not to.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
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
            parser_kwargs={"prog": "subspace", **_HELP},
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


def _tell_pairs(sets: Mapping[str, StoredPairs]) -> None:
    """Says what the blocks for pairs have learned from."""
    total = 0
    for name, stored in sets.items():
        pairs = stored.pairs_of("train")
        queries = len(np.unique(pairs[:, 0]))
        total += queries
        print(f"learned from {queries} queries and {len(pairs)} pairs of '{name}'")
    if sets and total < _FEW_QUERIES:
        print(
            f"warning: {total} queries are few: blocks from pairs need some hundred to do well on "
            "others"
        )


def _block_names(blocks: dict[str, int] | None) -> list[str] | None:
    return None if blocks is None else list(blocks)


def _sampling_seed(seed: Any) -> int:
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0
