"""Lines of a raw file in whatever dialect it is written: compression, encoding, byte order marks, line ends.

    for where, line in read_lines("raw/train.txt", notes):      # notes: a Counter of the dialects met
        print(where, line)                                      # raw/train.txt:1 text without its line end

Compression is told by the first bytes, not by the name; GB18030 is read where most lines are no UTF-8 and look like
Chinese in it; lone carriage returns end lines where there is no "\\n" at all. A line that is no text comes as the
DataError that says why.
"""

import bz2
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, cast

from ..errors import DataError, caught
from ..readers.lines import decode_line, refuse_binary, without_end

Lines = Iterator[tuple[str, str | DataError]]  # (where, text without its line end, or why it is none)

BOM = "\ufeff"
_SAMPLE = 1000  # lines with other characters than ASCII that decide the encoding
_CHUNK = 1 << 16
_GB18030_BOM = BOM.encode("gb18030")
_COMMON_CHINESE = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")  # the two bytes of a character in GB2312


def read_lines(file: str, notes: Counter[str]) -> Lines:
    """Yield ("file:line", text) for every line, blank ones too, in constant memory.

    Raises:
        DataError: the file cannot be read, is no text, or its compression is damaged.
    """
    end = _line_end(file)
    encoding = _encoding(file, end)
    notes["files in GB18030"] += encoding != "utf-8"
    notes["files whose lines end with a carriage return alone"] += end == b"\r"
    for number, line in raw_lines(file, end):
        where = f"{file}:{number}"
        notes["lines that end with CRLF"] += line.endswith(b"\r")
        text = caught(_decode, line, encoding, where)
        if number == 1 and isinstance(text, str) and text.startswith(BOM):
            text = text.lstrip(BOM)
            notes["byte order marks"] += 1
        yield where, text


def read_whole(file: str, notes: Counter[str]) -> str:
    """The text of a file, its lines ended by "\\n". Raises DataError for the first line that is no text."""
    texts = []
    for _, text in read_lines(file, notes):
        if isinstance(text, DataError):
            raise text
        texts.append(text)
    return "\n".join(texts)


def first_line(file: str) -> str:
    """The first line that is not blank, "" without one; for telling formats apart."""
    lines = (line for _, line in read_lines(file, Counter()) if not isinstance(line, DataError))
    return next((line.strip() for line in lines if line.strip()), "")


def raw_lines(file: str, end: bytes = b"\n") -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, bytes without the line end). Raises DataError."""
    with _opened(file) as stream:
        for number, line in enumerate(_cut(stream, end), start=1):
            if number == 1:
                refuse_binary(line, file)
            yield number, line


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    try:
        with open(file, "rb") as plain:
            magic = plain.read(3)
            plain.seek(0)
            if magic[:2] == b"\x1f\x8b":
                yield cast(BinaryIO, gzip.GzipFile(fileobj=plain))
            elif magic == b"BZh":
                yield cast(BinaryIO, bz2.BZ2File(plain))
            else:
                yield plain
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(file, f"the compressed file is damaged or cut off ({error}); copy it again") from None
    except OSError as error:
        raise DataError(file, f"cannot be read: {error.strerror or error}") from None


def _cut(stream: BinaryIO, end: bytes) -> Iterator[bytes]:
    if end == b"\n":
        yield from (line.removesuffix(end) for line in stream)
        return
    rest = b""
    while chunk := stream.read(_CHUNK):
        *lines, rest = (rest + chunk).split(end)
        yield from lines
    if rest:
        yield rest


def _line_end(file: str) -> bytes:
    """A carriage return only if no line ends otherwise."""
    found = b"\n"
    with _opened(file) as stream:
        while chunk := stream.read(_CHUNK):
            if b"\n" in chunk:
                return b"\n"
            found = b"\r" if b"\r" in chunk else found
    return found


def _encoding(file: str, end: bytes) -> str:
    """GB18030 where most lines are no UTF-8, but this; a line that is neither is an error later, on its own."""
    others = (line for _, line in raw_lines(file, end) if not line.isascii())
    sample = list(islice(others, _SAMPLE))
    if sample and sample[0].startswith(_GB18030_BOM):
        return "gb18030"
    utf8, gb18030 = (sum(_is_text(line, name) for line in sample) for name in ("utf-8", "gb18030"))
    return "gb18030" if 2 * utf8 < len(sample) < 2 * gb18030 else "utf-8"


def _is_text(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    # Latin-1 is legal GB18030 quite often: an accented letter takes the plain one behind it along.
    high_bytes = sum(byte > 0x7F for byte in line)
    return encoding == "utf-8" or 4 * len(_COMMON_CHINESE.findall(line)) > high_bytes


def _decode(line: bytes, encoding: str, where: str) -> str:
    if encoding == "utf-8" or b"\0" in line:
        return without_end(decode_line(line, where), where)
    try:
        return without_end(line.decode(encoding), where)
    except UnicodeDecodeError as error:
        message = f"not GB18030, as the other lines are (byte 0x{line[error.start]:02x} at byte {error.start + 1})"
        raise DataError(where, message) from None
