"""`subspace fit | validate | test`: reads a YAML file, solves or trains, and saves the model."""

import os
import re
import shlex
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import get_loader, set_loader
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)

from subspace.cli.arguments import make_folder
from subspace.errors import ConfigError, install_command
from subspace.files import RepeatedKeyError, refuse_repeated_keys
from subspace.model.checkpoint_folder import check_new_target
from subspace.model.model import Model
from subspace.training.data_module import FactorData
from subspace.training.module import ProjectionModule
from subspace.training.quiet import quiet_trainer
from subspace.training.run_files import find_run_file
from subspace.training.sgd import MONITOR, best_of_run, finish

# Warnings of Lightning that are expected here.
_EXPECTED = (
    # The arguments are always passed as a list; Lightning warns if `sys.argv` holds some as well.
    "LightningCLI's args parameter",
    # A run may be repeated or resumed in its own folder.
    "Checkpoint directory .* exists and is not empty",
    # A run may end before its first validation.
    "Early stopping conditioned on metric .* which is not available",
)

# Texts that `--help` shows before and after the keys, by subcommand.
_HELP = {
    "fit": {
        "description": "Fits blocks on labelled texts, from a YAML file: stores their embeddings "
        "and solves the closed form; with --model.solver sgd it trains from there, and leaves a "
        "file to resume from beside the model. Keys of the file are options too "
        "(docs/reference-yaml.md).",
        "epilog": "example: subspace fit --config configs/demo.yaml --output checkpoints/mine",
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


class _SaveSettings(SaveConfigCallback):
    """Saves all settings of a run next to its model, and passes them to its loggers."""

    def save_config(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002 (Lightning's signature)
        stage: str,
    ) -> None:
        if stage == "fit":
            _save_settings(self.parser, self.config, loggers=trainer.loggers)


class _SubspaceCLI(LightningCLI):
    """LightningCLI with a folder for the run, and with the closed form, which needs no trainer."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--output",
            default="checkpoints/latest",
            help="Folder of the run: the model (config.json, model.safetensors) and all settings "
            "(training.yaml); of training, best.ckpt, and last.ckpt to resume from.",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(
            {
                "checkpoint.monitor": MONITOR,
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.enable_version_counter": False,
                "early_stopping.monitor": MONITOR,
                "early_stopping.patience": 5,
                # `check_monitors` checks the names; a run may end before the first validation.
                "early_stopping.strict": False,
            }
        )
        parser.link_arguments("output", "checkpoint.dirpath")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_sampling_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        # Checked here, because Lightning reads the file next, with unclear errors for wrong files.
        subcommand = self.config["subcommand"]
        settings = self.config[subcommand]
        seed = settings["seed_everything"]
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything must be 0 or more and below 2 ** 32, got {seed}")
        settings["ckpt_path"] = find_run_file(
            settings["ckpt_path"], output=Path(settings["output"]), required=subcommand != "fit"
        )

    def before_instantiate_classes(self) -> None:
        logger = str(self.config[self.config["subcommand"]]["trainer"]["logger"])
        if "TensorBoardLogger" in logger and find_spec("tensorboard") is None:
            raise ConfigError(
                "trainer.logger asks for TensorBoard, which is not installed; run: "
                f"{install_command('tensorboard')}"
            )

    def instantiate_classes(self) -> None:
        if not self._solves():
            super().instantiate_classes()
            return
        self.config_init = self.parser.instantiate(self.config)
        self.datamodule, self.model = (
            self.config_init["fit"]["data"],
            self.config_init["fit"]["model"],
        )

    def instantiate_trainer(self, **options: Any) -> pl.Trainer:
        try:
            return super().instantiate_trainer(**options)
        except (ValueError, TypeError) as error:  # names of strategies, accelerators and devices
            raise ConfigError(f"trainer: {one_sentence(str(error))}") from error

    def _run_subcommand(self, subcommand: str) -> None:
        if self._solves():
            self._solve()
        else:
            super()._run_subcommand(subcommand)

    def _solves(self) -> bool:
        """Tells whether the command fits in closed form, without a trainer."""
        subcommand = self.config["subcommand"]
        return bool(subcommand == "fit" and self.config["fit"]["model"]["solver"] == "closed_form")

    def _solve(self) -> None:
        settings = self.config["fit"]
        if settings["ckpt_path"] is not None:
            raise ConfigError(
                "--ckpt_path is to resume training; the closed form has no use for it"
            )
        output = make_folder(settings["output"])
        check_new_target(output, beside=[settings["data"]["store"]])
        recipe = self.datamodule.recipe(settings["model"]["blocks"])
        model = self.datamodule.fitting_data.solve(recipe)
        given = self.config_init["fit"]["trainer"]["logger"]
        loggers = [one for one in given if one] if isinstance(given, list) else [given]
        loggers = [logger for logger in loggers if isinstance(logger, Logger)]
        _save_settings(self._parser("fit"), settings, loggers=loggers)
        self._save(model, output, loggers=loggers)
        for logger in loggers:
            logger.finalize("success")

    def before_fit(self) -> None:
        settings = self.config["fit"]
        check_new_target(make_folder(settings["output"]), beside=[settings["data"]["store"]])
        self._read_without_pickle()

    def before_validate(self) -> None:
        self._read_without_pickle()

    def before_test(self) -> None:
        self._read_without_pickle()

    def _read_without_pickle(self) -> None:
        self.config_init[self.subcommand]["weights_only"] = True

    def after_fit(self) -> None:
        output = Path(self.config["fit"]["output"])
        if not getattr(self.trainer.checkpoint_callback, "best_model_path", ""):
            self.trainer.save_checkpoint(output / "last.ckpt")  # no validation has saved one
        best = best_of_run(self.trainer, self.model)
        if not self.trainer.is_global_zero:
            return
        if best.steps == 0:
            print("no step of training improved on its start, which is kept")
        model = finish(best, module=self.model, data=self.datamodule)
        self._save(model, output, loggers=self.trainer.loggers, step=self.trainer.global_step)

    def _save(
        self, model: Model, output: Path, *, loggers: Sequence[Logger], step: int = 0
    ) -> None:
        model.save(output)
        print(f"checkpoint -> {output}")
        known = shlex.quote(str(output))
        print(f"next: subspace index --checkpoint {known} --input F.jsonl --output runs/index")
        if loggers:
            # Takes seconds, so it is done only if there is a logger.
            from subspace.cli.fit_logging import log_separation, measure_on_validation

            data = self.datamodule.fitting_data
            matrix = measure_on_validation(
                model.projection,
                sources=data.sources,
                vectors=data.vectors,
                raw=model.fingerprint.last_layer,
            )
            log_separation(matrix, loggers=loggers, step=step)


def _cli_of(verb: str) -> type[_SubspaceCLI]:
    """Returns the command line of one subcommand, as reading all keys for others takes a second."""

    class OneVerb(_SubspaceCLI):
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {verb: LightningCLI.subcommands()[verb]}

    return OneVerb


def run_training(arguments: Sequence[str]) -> None:
    """Runs `fit`, `validate` or `test` with LightningCLI's arguments."""
    verb = arguments[0]
    # Keeps W&B from sending reports of its errors to its developers.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        with quiet_trainer(*_EXPECTED):
            _cli_of(verb)(
                ProjectionModule,
                FactorData,
                args=list(arguments),
                seed_everything_default=0,
                auto_configure_optimizers=False,
                save_config_callback=_SaveSettings,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults={
                    "logger": False,
                    "enable_progress_bar": sys.stdout.isatty(),
                    "devices": 1,
                    "enable_model_summary": False,
                    "num_sanity_val_steps": 0,  # the module validates the start on all batches
                },
                parser_kwargs={
                    "prog": "subspace",
                    "exit_on_error": False,
                    verb: {**_HELP[verb], "exit_on_error": False},
                },
            )
    except SystemExit as stop:
        if stop.code == 1:  # Lightning's exit code after Ctrl-C, once its files are written
            raise KeyboardInterrupt from None
        raise
    except (ArgumentError, MisconfigurationException) as error:
        raise ConfigError(one_sentence(str(error))) from error


def _load_yaml(text: str, path: str = "") -> Any:
    """Reads YAML of files and options as the parser does; but no key may stand twice."""
    try:
        refuse_repeated_keys(text)
    except RepeatedKeyError as error:
        raise RepeatedKeyError(f"{path}: {error}" if path else str(error)) from error
    return _load_yaml_loosely(text)


_load_yaml_loosely = get_loader("yaml")
set_loader("yaml", _load_yaml, exceptions=(yaml.YAMLError, RepeatedKeyError))


def one_sentence(message: str) -> str:
    """Shortens what the parser and Lightning say to one line: the key, the value, its kinds."""
    text = message.strip()
    key = re.search(r'Parser key "([^"]+)"', text)
    given = re.search(r"Given value: (.*)", text, re.DOTALL)
    kinds = re.search(r"Subtypes: \[(.*)\]\n", text)
    if key and given and kinds:
        named = re.sub(r"typing\.|collections\.abc\.|<class '([^']+)'>", r"\1", kinds[1])
        named = named.replace("NoneType", "null")
        shown = " ".join(given[1].split())
        return f"{key[1]} cannot be {shown:.60}; it takes {named}"
    return " ".join(text.split())


def _save_settings(parser: Any, config: Any, *, loggers: Sequence[Logger]) -> None:
    """Writes training.yaml, and passes its content to the loggers."""
    path = make_folder(config["output"]) / "training.yaml"
    parser.save(config, path, overwrite=True)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for logger in loggers:
        logger.log_hyperparams(settings)


def _sampling_seed(seed: Any) -> int:
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0
