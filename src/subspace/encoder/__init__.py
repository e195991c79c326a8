"""The frozen text encoder."""

from subspace.encoder.encoder import Encoder, EncoderSpec, Kind
from subspace.encoder.fingerprint import Fingerprint

__all__ = ["Encoder", "EncoderSpec", "Fingerprint", "Kind"]
