"""Licences that the user of a checkpoint states for its model card."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subspace.errors import ConfigError
from subspace.files import read_yaml

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Licences:
    """Licences as a user states them.

    Attributes:
        checkpoint: Licence of the tensors, as the hub names it (`cc-by-sa-4.0`); None if not
            stated.
        sources: Licence and attribution of each source.
    """

    checkpoint: str | None = None
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def read_licences(path: Path | str, *, sources: Iterable[str]) -> Licences:
    """Reads a YAML or JSON file of licences.

    ::

        checkpoint: cc-by-sa-4.0
        sources:
          clinc: {licence: CC BY 3.0, attribution: "Larson et al. 2019"}

    Args:
        path: The file.
        sources: Names of the sources that the checkpoint was fitted on.

    Raises:
        ConfigError: The file cannot be read, has the wrong form, or names another source.
    """
    try:
        stated = read_yaml(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--licences: cannot read {path}: {error}") from error
    named: Any = stated.get("sources", {}) if isinstance(stated, dict) else None
    sound = (
        isinstance(named, dict)
        and set(stated) <= {"checkpoint", "sources"}
        and isinstance(stated.get("checkpoint", ""), str)
        and all(
            isinstance(one, dict)
            and set(one) <= {"licence", "attribution"}
            and all(isinstance(text, str) for text in one.values())
            for one in named.values()
        )
    )
    if not sound:
        raise ConfigError(
            f"--licences: {path} must hold `checkpoint: LICENCE` and `sources: {{NAME: {{licence: "
            "..., attribution: ...}}`, each a text"
        )
    unknown = sorted(set(map(str, named)) - set(sources))
    if unknown:
        raise ConfigError(
            f"--licences: {path} names {', '.join(unknown)}, but the checkpoint was trained on "
            f"{', '.join(sources) or 'nothing that it knows of'}"
        )
    return Licences(
        checkpoint=stated.get("checkpoint"),
        sources={
            name: (one.get("licence", NOT_STATED), one.get("attribution", ""))
            for name, one in named.items()
        },
    )
