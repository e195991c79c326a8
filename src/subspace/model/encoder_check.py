"""Comparison of an encoder with the one that a checkpoint was trained on."""

from dataclasses import replace

from subspace.encoder import Fingerprint


def encoder_differences(mine: Fingerprint, theirs: Fingerprint) -> list[str]:
    """Lists the fields in which another encoder differs, as `field: mine, not theirs`.

    Models with equal hashes of their files count as the same model, since a copy may be in a folder
    of another name. A commit of the hub and a hash cannot be compared; this counts as a difference.
    """
    hashed = [one.revision.startswith("sha256:") for one in (mine, theirs)]
    if not any(hashed) or (all(hashed) and mine.revision != theirs.revision):
        return mine.differences(theirs)
    same_model = replace(theirs, model=mine.model, revision=mine.revision)
    others = mine.differences(same_model)
    if all(hashed):
        return others
    remedy = (
        f"give the files it was trained with, or train on {theirs.model!r}"
        if hashed[0]
        else f"give {mine.model!r} (what was downloaded before is found without a network), "
        "or train on the folder"
    )
    return [
        f"revision: {_say_revision(mine)}, which cannot be compared with "
        f"{_say_revision(theirs)}; {remedy}",
        *others,
    ]


def _say_revision(fingerprint: Fingerprint) -> str:
    if fingerprint.revision.startswith("sha256:"):
        return f"the hash of the files of {fingerprint.model!r} ({fingerprint.revision!r})"
    return f"the commit {fingerprint.revision!r} of {fingerprint.model!r} on the hub"
