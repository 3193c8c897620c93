"""Is this text new? Exact and near duplicates, one text after the other.

    is_new = Deduplicator(similarity=0.8)
    kept = [text for text in texts if is_new(text)]

Exact duplicates are the same but for capitals, white space and punctuation. Near ones: MinHash with locality-sensitive
hashing (Broder 1997; Lee et al. 2022, https://arxiv.org/abs/2107.06499) of the library datasketch, over rows of five
words (of Chinese, characters). Memory grows with the number of texts kept: about 150 bytes each, for near ones 6 kB.

Copy: with errors.py, word_segments.py; needs numpy; can use datasketch, jieba.
"""

import hashlib
import re

import numpy as np

from .errors import DataError
from .word_segments import UNSPACED

UNITS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
ROW = 5
PERMUTATIONS = 128


class Deduplicator:
    """Remembers what it has seen."""

    def __init__(self, similarity: float = 1.0):
        """
        Args:
            similarity: Jaccard similarity of the rows of words from which on a text is a duplicate, as MinHash
                estimates it (standard error up to 0.045); 1 = exact ones only.

        Raises: DataError if near ones are asked for and datasketch is not installed.
        """
        self.similarity = similarity
        self.exact: set[bytes] = set()
        if similarity < 1:
            try:
                from datasketch import MinHash, MinHashLSH
            except ImportError:
                message = "near duplicates need datasketch: pip install datasketch"
                raise DataError("arguments", message, "deduplicate") from None
            self.new_signature = MinHash
            # more candidates than needed, as they are compared anyway: few near ones are overlooked
            self.index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS, weights=(0.05, 0.95))
            self.signatures: list[np.ndarray] = []

    def __call__(self, text: str) -> bool:
        """Whether nothing like it came before; it is remembered if so."""
        units = UNITS.findall(text.casefold()) or [text]
        digest = hashlib.blake2b(" ".join(units).encode(), digest_size=16).digest()
        if digest in self.exact:
            return False
        self.exact.add(digest)
        return self.similarity == 1 or not self.is_near(units)

    def is_near(self, units: list[str]) -> bool:
        rows = {" ".join(units[n : n + ROW]).encode() for n in range(max(1, len(units) - ROW + 1))}
        signature = self.new_signature(num_perm=PERMUTATIONS)
        signature.update_batch(sorted(rows))
        values = signature.hashvalues
        if any((self.signatures[n] == values).mean() >= self.similarity for n in self.index.query(signature)):
            return True
        self.index.insert(len(self.signatures), signature)
        self.signatures.append(values)
        return False
