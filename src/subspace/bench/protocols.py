"""The protocols by name, and a choice among them."""

from collections.abc import Mapping
from difflib import get_close_matches

from subspace.bench.protocol import Protocol, Setting
from subspace.bench.text_protocols import (
    SINGLE,
    list_chunks,
    list_late_interaction,
    list_single,
    make_hierarchical,
)
from subspace.bench.vector_protocols import (
    REDUCTIONS,
    list_factored,
    list_factored_chunked,
    list_reductions,
    make_reduction,
)
from subspace.errors import ConfigError


def list_protocols(setting: Setting) -> dict[str, Protocol]:
    """Lists every protocol that the setting allows, by name; the single vector comes first."""
    found = [
        *list_single(setting),
        *list_chunks(setting),
        make_hierarchical(setting),
        *list_late_interaction(),
        *list_reductions(setting),
        *list_factored(setting),
        *list_factored_chunked(setting),
    ]
    return {protocol.name: protocol for protocol in found}


def choose_protocols(names: str | None, *, setting: Setting) -> list[Protocol]:
    """Chooses protocols by name; the single vector always comes first.

    Args:
        names: Names of protocols or families, separated by commas; None for all. The name of a
            reduction may have any number of dimensions, such as `pca-48`.
        setting: The inputs that the protocols are made from.

    Raises:
        ConfigError: A name is unknown, or a number of dimensions is not possible.
    """
    known = list_protocols(setting)
    if names is None:
        return list(known.values())
    chosen = {SINGLE: known[SINGLE]}
    for name in (part.strip() for part in names.split(",")):
        chosen.update({p.name: p for p in _find(name, known, setting)})
    return list(chosen.values())


def _find(name: str, known: Mapping[str, Protocol], setting: Setting) -> list[Protocol]:
    if name in known:
        return [known[name]]
    family = [protocol for protocol in known.values() if protocol.family == name]
    if family:
        return family
    kind, _, size = name.rpartition("-")
    if kind in REDUCTIONS and size.isdecimal():
        return [make_reduction(kind, int(size), setting)]
    if name in REDUCTIONS:
        raise ConfigError(f"--protocols: {name} needs a number of dimensions, such as {name}-128")
    families = dict.fromkeys(protocol.family for protocol in known.values())
    near = get_close_matches(name, known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the protocols are {', '.join(known)}"
    raise ConfigError(
        f"--protocols: no protocol {name!r}; the families are {', '.join(families)}; {hint}"
    )
