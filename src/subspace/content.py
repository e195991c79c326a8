"""What a file holds that is not text in UTF-8, told by its first bytes."""

_BEGINNINGS = (
    (b"\x1f\x8b", "is not UTF-8 but gzipped: end its name in .gz, or unpack it"),
    (b"PK\x03\x04", "is not UTF-8 but a zip archive: unpack it"),
    (b"BZh91AY", "is not UTF-8 but packed by bzip2: unpack it"),
    (b"\xfd7zXZ", "is not UTF-8 but packed by xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "is not UTF-8 but packed by zstd: unpack it"),
    # UTF-32 before UTF-16, whose mark it begins with.
    (b"\xff\xfe\0\0", "is not UTF-8 but UTF-32: save it as UTF-8"),
    (b"\0\0\xfe\xff", "is not UTF-8 but UTF-32: save it as UTF-8"),
    (b"\xff\xfe", "is not UTF-8 but UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "is not UTF-8 but UTF-16: save it as UTF-8"),
)
# Number of bytes that are enough.
HEAD = 8


def name_content(head: bytes) -> str | None:
    """Returns what a file is, and what to do, if its first bytes say that it is no UTF-8.

    Args:
        head: The first bytes, `HEAD` or more.
    """
    for beginning, said in _BEGINNINGS:
        if head.startswith(beginning):
            return said
    # Without a mark, the letters and brackets that texts begin with are every second byte.
    pairs = head[:4]
    if len(pairs) == 4 and any(not any(pairs[at::2]) and all(pairs[1 - at :: 2]) for at in (0, 1)):
        return "is not UTF-8 but UTF-16: save it as UTF-8"
    return None
