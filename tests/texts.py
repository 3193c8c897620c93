"""A few sentences that tests train tokenizers on."""

TEXTS = [
    "play yesterday by the beatles",
    "what is the weather in paris",
    "播 放 周 杰 伦 的 歌",
    "wake me at seven",
] * 4
