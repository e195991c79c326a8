"""The frozen text encoder."""

from subspace.encoder.encoder import Encoder, Kind
from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.spec import EncoderSpec
from subspace.encoder.texts import find_fault

__all__ = ["Encoder", "EncoderSpec", "Fingerprint", "Kind", "find_fault"]
