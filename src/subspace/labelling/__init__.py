"""Labels for texts that have none; each label says which annotator gave it."""

from subspace.labelling.annotator import Annotator
from subspace.labelling.annotator_agreement import (
    AnnotatorAgreement,
    agreement_table,
    compare_annotators,
)
from subspace.labelling.checkpoint_annotator import CheckpointAnnotator
from subspace.labelling.clusters import ClustersAnnotator
from subspace.labelling.feature_annotator import FeatureAnnotator
from subspace.labelling.label_file import label_file
from subspace.labelling.label_texts import LabelledTexts, label_texts
from subspace.labelling.language_model import LanguageModelAnnotator
from subspace.labelling.open_annotators import AnnotatorSettings
from subspace.labelling.raw_texts import RawTexts, read_raw_texts
from subspace.labelling.rewrite_file import rewrite_file
from subspace.labelling.rubric import read_rubric

__all__ = [
    "Annotator",
    "AnnotatorAgreement",
    "AnnotatorSettings",
    "CheckpointAnnotator",
    "ClustersAnnotator",
    "FeatureAnnotator",
    "LabelledTexts",
    "LanguageModelAnnotator",
    "RawTexts",
    "agreement_table",
    "compare_annotators",
    "label_file",
    "label_texts",
    "read_raw_texts",
    "read_rubric",
    "rewrite_file",
]
