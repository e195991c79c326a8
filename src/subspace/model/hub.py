"""Checkpoints on the Hugging Face hub: fetching, from its cache if possible, and pushing."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.errors import CheckpointError
from subspace.model.checkpoint_folder import CONFIG, LOCK, TENSORS, is_ours

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from subspace.model.model import Model

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubId:
    """A repository on the hub.

    Attributes:
        name: `owner/name`.
        revision: Branch, tag or commit; None for the newest commit of the main branch.
    """

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubId | None":
        """Parses `owner/name` or `owner/name@revision`; None if `text` cannot be a hub id.

        Without a revision, `owner/name` counts as a path if a folder `owner` exists.
        """
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        name, at, revision = text.partition("@")
        owner = name.partition("/")[0]
        if name.count("/") != 1 or (at and not revision) or (not at and Path(owner).is_dir()):
            return None
        try:
            validate_repo_id(name)
        except HFValidationError:
            return None
        return cls(name, revision or None)

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def pinned(self) -> bool:
        """Whether it names a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


def fetch(hub_id: HubId) -> Path:
    """Downloads a checkpoint from the hub, unless it is in the cache; returns its folder.

    A commit that is in the cache needs no network. For a branch or tag the hub is asked for the
    newest commit; if it cannot be reached, the cached one is used.

    Args:
        hub_id: The repository.

    Raises:
        CheckpointError: The repository is neither on this machine nor available from the hub, or
            holds no checkpoint.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(**more: Any) -> Path:
        wanted = [CONFIG, TENSORS]
        found = snapshot_download(
            hub_id.name, revision=hub_id.revision, allow_patterns=wanted, **more
        )
        return Path(found)

    if hub_id.pinned:
        try:
            found = download(local_files_only=True)
            if not _missing(found):  # an interrupted download lacks files
                return found
        except LocalEntryNotFoundError:
            pass
    try:
        found = download()
    except (OSError, _transport_error()) as error:
        raise CheckpointError(
            f"checkpoint '{hub_id}' is neither whole on this machine nor to be had from the hub "
            f"({_reason(error)}); give the path of a downloaded copy, or connect to the network "
            "once"
        ) from error
    missing = _missing(found)
    if missing:
        raise CheckpointError(
            f"'{hub_id}' is no checkpoint, or its download was interrupted: {found} has no "
            f"{missing}"
        )
    return found


def push(
    model: "Model",
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Checkpoint of subspace",
    card: Mapping[str, Any] | None = None,
) -> str:
    """Pushes a checkpoint with its card to the hub; creates the repository if needed.

    A card in the repository that was written by hand stays.

    Args:
        model: The model to push.
        repo_id: `owner/name`.
        private: Whether a new repository is private; None for the owner's default.
        token: Token of the hub; None for that of the logged-in user.
        commit_message: Message of the commit.
        card: Arguments of `model_card.make_card`.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: The name is invalid, the repository holds another model, or the hub
            refuses or cannot be reached.
        ConfigError: The report or the licences of the card cannot be used.
    """
    from huggingface_hub import HfApi

    if "@" in repo_id or HubId.parse(f"{repo_id}@main") is None:
        raise CheckpointError(
            f"'{repo_id}' cannot be the name of a repository: give OWNER/NAME, of letters, digits, "
            "'-', '_' and '.'"
        )
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        # A wrong card raises here, before anything is created on the hub.
        model.save(folder, **{"name": repo_id, **(card or {})})
        try:
            kept = _kept_files(repo_id, api=api)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                ignore_patterns=[*kept, LOCK],
            )
        except (OSError, _transport_error()) as error:
            raise CheckpointError(f"cannot push to '{repo_id}': {_reason(error)}") from error
    return str(commit.commit_url)


def _kept_files(name: str, *, api: "HfApi") -> list[str]:
    """Returns the files of a repository to keep: its card, if that was written by hand.

    Raises:
        CheckpointError: The repository holds another model.
        OSError: The hub refuses or cannot be reached.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    from subspace.model.model_card import CARD, is_by_hand

    try:
        found = api.model_info(name)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:  # or it is private, and pushing fails
        return []
    there = {file.rfilename for file in found.siblings or ()}
    with tempfile.TemporaryDirectory() as folder:
        for file in there & {CONFIG, CARD}:
            api.hf_hub_download(name, file, revision=found.sha, local_dir=folder)
        taken = [file for file in (CONFIG, TENSORS) if file in there]
        if taken and not is_ours(Path(folder) / CONFIG):
            raise CheckpointError(
                f"{taken[0]} of '{name}' was not written by subspace, or is damaged: choose "
                "another repository, or delete the file there"
            )
        return [CARD] if is_by_hand(Path(folder) / CARD) else []


def _missing(folder: Path) -> str:
    """Returns the name of a file that a snapshot lacks; empty if it is complete."""
    return next((name for name in (CONFIG, TENSORS) if not (folder / name).is_file()), "")


def _transport_error() -> type[Exception]:
    """Returns the error that the hub's client raises if a connection fails."""
    from huggingface_hub import errors

    error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return error


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, RevisionNotFoundError):
        return "the hub has no such revision"
    if isinstance(error, GatedRepoError):
        return "its owner has to grant access: ask on its page, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such repository, or it is private: `hf auth login`"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return "the hub refuses: `hf auth login` with a token that may write there"
    return next(iter(str(error).splitlines()), type(error).__name__)
