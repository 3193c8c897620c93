"""Lines of a text file, plain or gzip, and the `.txt` format.

A line ends at "\\n" and nowhere else: `str.splitlines` would also cut at U+2028 and U+0085, which are text.

Copy: with ../errors.py; needs only Python.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import DataError, caught

Records = Iterator[tuple[str, dict[str, Any]]]  # (where, record)
Items = Iterator[tuple[str, dict[str, Any] | DataError]]  # (where, record, or why it cannot be read)

_BOM = "\ufeff"
_BOM_BYTES = _BOM.encode()

_BINARY = {  # first bytes, none of which can begin a text in UTF-8 -> what is it
    b"\x1f\x8b": "this is a gzip file; add .gz to its name",
    b"PAR1\x15": "this is a Parquet file; name it .parquet",
    b"PK\x03\x04": "this is a zip archive (a spreadsheet, a saved model?); save the data as .jsonl",
    **{bytes([0x80, n]): "this is a pickle, which is never opened, it can run any code" for n in range(2, 6)},
}


def read_text(source: str) -> Items:
    """Yield every line that is not blank as {"text": line}."""
    return parsed_lines(source, parse_text_line)


def parse_text_line(line: bytes, where: str) -> dict[str, Any] | None:
    """Return {"text": line} without the line end, or None for a blank line.

    Args:
        line: one raw line; a byte order mark before it is dropped.
        where: "path:line" for the message.

    Raises:
        DataError: the line is not UTF-8, or holds a NUL byte or a carriage return.
    """
    text = decode_line(line, where).lstrip(_BOM)
    return {"text": without_end(text, where)} if text.strip() else None


def parsed_lines(source: str, parse: Callable[[bytes, str], dict[str, Any] | None]) -> Items:
    """Yield ("path:line", parse(line, "path:line")) for the lines for which `parse` gives a record."""
    for number, line in raw_lines(source):
        where = f"{source}:{number}"
        record = caught(parse, line, where)
        if record is not None:
            yield where, record


def raw_lines(source: str) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, bytes with the line end), without byte order marks at the head of the file.

    Raises:
        DataError: the file cannot be read, is no text, or is named `.gz` and is no sound gzip file.
    """
    number = 0
    try:
        with gzip.open(source, "rb") if source.lower().endswith(".gz") else open(source, "rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    refuse_binary(line, source)
                while number == 1 and line.startswith(_BOM_BYTES):  # editors that add a second one exist
                    line = line[len(_BOM_BYTES) :]
                yield number, line
    except gzip.BadGzipFile as error:
        message = f"not a sound gzip file ({error}); compress it with `gzip FILE`, or drop .gz from its name"
        raise DataError(source, message) from None
    except (EOFError, zlib.error) as error:
        message = f"the gzip file is damaged or cut off ({error}); copy it again"
        raise DataError(f"{source}:{number + 1}", message) from None
    except OSError as error:
        raise DataError(source, f"cannot be read: {error.strerror or error}") from None


def refuse_binary(line: bytes, source: str) -> None:
    """Raise DataError if this first line of a file shows that it is no text."""
    for start, what in _BINARY.items():
        if line.startswith(start):
            raise DataError(source, f"no text: {what}")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{source}:1", f"this is a UTF-16 file: {_conversion('UTF-16')}")


def decode_line(line: bytes, where: str) -> str:
    """Decode UTF-8; the line end stays.

    Raises:
        DataError: the line holds a NUL byte or is not UTF-8; the message names the conversion that helps.
    """
    if b"\0" in line:
        message = f"NUL byte at byte {line.index(0) + 1} of the line: the file is damaged or is UTF-16"
        raise DataError(where, f"{message}; if UTF-16, {_conversion('UTF-16')}")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"not UTF-8 (byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line)"
        raise DataError(where, f"{found}; {_encoding_hint(line, error.reason)}") from None


def _encoding_hint(line: bytes, reason: str) -> str:
    """What to do about a line that is not UTF-8."""
    if reason == "unexpected end of data":  # everything before was UTF-8
        return "the line ends in the middle of a character: the file was cut off, copy it again"
    try:
        line.decode("gb18030")
    except UnicodeDecodeError:
        return f"find out its encoding and {_conversion('ENCODING')}"
    return f"the line decodes as GB18030: if the whole file does, {_conversion('GB18030')}"


def _conversion(encoding: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8 FILE > NEW_FILE`"


def plain_line(line: bytes, where: str) -> str:
    """Decode UTF-8; the line end goes."""
    return without_end(decode_line(line, where), where)


def without_end(text: str, where: str) -> str:
    """The text of a line. Raises DataError for a carriage return elsewhere than at its end."""
    text = text.removesuffix("\n").removesuffix("\r")
    if "\r" in text:
        message = f"carriage return at column {text.index(chr(13)) + 1}; remove it, or convert old Mac line ends to \\n"
        raise DataError(where, message)
    return text
