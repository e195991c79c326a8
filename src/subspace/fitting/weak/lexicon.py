"""Lexicon: words and their replacements in rewrites.

`data/make_lexicon.py` makes `lexicon.tsv` from WordNet 3.3; its first lines name the licence. The
short tables in this module are made by hand.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

CONTRACTIONS: Mapping[str, str] = {
    f"{subject} {verb}": f"{subject}{ending}"
    for ending, verb, subjects in (
        ("'m", "am", ("I",)),
        ("'re", "are", ("you", "we", "they")),
        ("'s", "is", ("it", "he", "she", "that", "there", "what", "who", "here")),
        ("'ve", "have", ("I", "you", "we", "they")),
        ("'ll", "will", ("I", "you", "we", "they", "he", "she", "it")),
        ("'d", "would", ("I", "you", "we", "they", "he", "she")),
    )
    for subject in subjects
} | {
    "cannot": "can't",
    "will not": "won't",
    "shall not": "shan't",
    "let us": "let's",
    **{
        f"{verb} not": f"{verb}n't"
        for verb in "do does did is are was were have has had would could should must need".split()
    },
}


def _pairs(text: str) -> dict[str, str]:
    """Reads `word:replacement word:replacement`, with _ for a space."""
    return dict(pair.replace("_", " ").split(":") for pair in text.split())


CASUAL: Mapping[str, str] = _pairs(
    "very:super people:folks children:kids man:guy men:guys friend:buddy friends:pals "
    "money:cash great:awesome excellent:awesome many:loads because:cuz obtain:get "
    "purchase:buy request:ask require:need requires:needs assist:help however:but "
    "therefore:so additionally:plus television:tv food:grub angry:mad crazy:nuts "
    "quickly:fast father:dad mother:mom nothing:nothin something:somethin them:em you:ya "
    "your:ur are:r before:b4 please:pls tomorrow:tmrw okay:ok though:tho"
)

FORMAL: Mapping[str, str] = _pairs(
    "get:obtain gets:obtains got:obtained buy:purchase buys:purchases bought:purchased "
    "ask:inquire asks:inquires asked:inquired need:require needs:requires needed:required "
    "help:assist helps:assists helped:assisted show:demonstrate shows:demonstrates "
    "showed:demonstrated use:utilize uses:utilizes used:utilized start:commence "
    "starts:commences started:commenced end:conclude try:attempt tries:attempts "
    "tried:attempted keep:retain keeps:retains kept:retained tell:inform tells:informs "
    "told:informed think:consider thinks:considers thought:considered big:substantial "
    "kids:children kid:child but:however so:therefore also:additionally about:regarding "
    "enough:sufficient more:additional good:favourable bad:unfavourable lots:numerous "
    "many:numerous maybe:perhaps like:such_as give:provide gives:provides gave:provided "
    "let:permit seem:appear find:discover found:discovered want:desire wants:desires "
    "wanted:desired way:manner now:currently then:subsequently before:prior_to "
    "after:following"
)

ARCHAIC: Mapping[str, str] = _pairs(
    "you:thou your:thy yours:thine are:art has:hath have:hast does:doth do:dost will:shall "
    "before:ere between:betwixt over:o'er often:oft here:hither there:thither "
    "where:whither yes:yea no:nay to:unto why:wherefore look:behold nothing:naught "
    "perhaps:perchance while:whilst says:saith said:spake goes:goeth makes:maketh "
    "takes:taketh gives:giveth comes:cometh knows:knoweth because:for people:folk"
)

FIRST_PERSON: Mapping[str, str] = dict(
    zip(
        "he she they his her their them him".split(),
        "I I we my my our us me".split(),
        strict=True,
    )
)


@cache
def simpler_words() -> Mapping[str, str]:
    """Maps rare words to a frequent synonym."""
    return _read("simple")


@cache
def rarer_words() -> Mapping[str, str]:
    """Maps frequent words to a rare synonym: the inverse of `simpler_words`, and formal words."""
    inverse = {frequent: rare for rare, frequent in simpler_words().items()}
    # WordNet lists abbreviations as synonyms of short words ("he": helium).
    long = {word: rare for word, rare in inverse.items() if min(len(word), len(rare)) > 3}
    return long | dict(FORMAL)


@cache
def general_words() -> Mapping[str, str]:
    """Maps nouns to a more general, frequent noun."""
    return _read("general")


def _read(kind: str) -> Mapping[str, str]:
    text = files("subspace.fitting.weak").joinpath("lexicon.tsv").read_text("utf-8")
    lines = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {word: other for table, word, other in lines if table == kind}
