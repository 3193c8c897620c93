"""Made-up raw files of every public corpus in the dialects in which they are published, and the records they hold.

EXAMPLES: corpus -> [(what is shown, {path: content}, {part: records})]
"""

import bz2
import gzip
import json
from typing import Any

BOM = "\ufeff"

Example = tuple[str, dict[str, str | bytes], dict[str, list[dict[str, Any]]]]


def lines(*values: Any) -> str:
    return "".join(f"{v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}\n" for v in values)


def tagged(words: str, tags: str, **more: Any) -> dict[str, Any]:
    return {"tokens": words.split(), "tags": tags.split(), **more}


def spelt(text: str, tags: str) -> dict[str, Any]:
    return {"tokens": list(text), "tags": tags.split()}


def pair(text_a: str, text_b: str, *label: Any) -> dict[str, Any]:
    return {"text_a": text_a, "text_b": text_b, **({"label": label[0]} if label else {})}


def labelled(text: str, *label: str) -> dict[str, Any]:
    return {"text": text, **({"label": label[0]} if label else {})}


SQUAD = {"version": "v2.0", "data": [{"title": "Ada", "paragraphs": [{
    "context": 'Ada wrote "notes" in London. 她在London。',
    "qas": [
        {"id": "q1", "question": "Where?", "is_impossible": False, "answers": [
            {"text": "London", "answer_start": 21}, {"text": "London", "answer_start": 31}]},
        {"id": "q2", "question": "When?", "is_impossible": True, "answers": [],
         "plausible_answers": [{"text": "notes", "answer_start": 11}]},
    ]}]}]}  # fmt: skip
SQUAD_RECORDS: list[dict[str, Any]] = [
    {"id": "q1", "question": "Where?", "context": 'Ada wrote "notes" in London. 她在London。',
     "answers": {"text": ["London", "London"], "answer_start": [21, 31]}},
    {"id": "q2", "question": "When?", "context": 'Ada wrote "notes" in London. 她在London。',
     "answers": {"text": [], "answer_start": []}},
]  # fmt: skip
HIDDEN = {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "1", "question": "q"}]}]}]}
HIDDEN_RECORDS = [{"id": "1", "question": "q", "context": "c"}]


def csqa(key: str | None, letters: str = "AB") -> dict[str, Any]:
    choices = [{"label": letter, "text": text} for letter, text in zip(letters, ("茶 tea", "stone"), strict=True)]
    question = {"question_concept": "drink", "choices": choices, "stem": "What do you drink?"}
    return {"id": "1", "question": question} | ({"answerKey": key} if key else {})


CSQA_RECORD = {"question": "What do you drink?", "context": "", "choices": ["茶 tea", "stone"]}
CSQA: list[Example] = [
    ("objects per line", {"train_rand_split.jsonl": lines(csqa("A"), csqa("Ｂ"), csqa("2", "12")),
                          "test_rand_split_no_answers.jsonl": lines(csqa(None))},
     {"train": [CSQA_RECORD | {"label": label} for label in (0, 1, 1)], "test": [CSQA_RECORD]}),
]  # fmt: skip

PAIRS = [pair("花呗怎么开", '我要"开', "1"), pair("a, b", "c", "0")]
PAIR_EXAMPLES: list[Example] = [
    ("tabs", {"train.txt": '花呗怎么开\t我要"开\t1\na, b\tc\t0\n'}, {"train": PAIRS}),
    ("tabs, a number before, BOMs, CRLF", {"x_train_all.csv":
        f'{BOM}1\t{BOM}花呗怎么开\t我要"开\t1\r\n2\ta, b\tc\t０\r\n'}, {"train": PAIRS}),
    ("commas, header", {"dev.csv": 'sentence1,sentence2,label\n花呗怎么开,"我要""开",1\n"a, b",c,0\n'}, {"dev": PAIRS}),
    ("GB18030, header, number", {"dev.tsv":
        'index\ttext_a\ttext_b\tlabel\n0\t花呗怎么开\t我要"开\t1\n1\ta, b\tc\t0'.encode("gb18030")}, {"dev": PAIRS}),
    ("objects", {"train.json": lines(*({"sentence1": p["text_a"], "sentence2": p["text_b"], "label": p["label"]}
                                        for p in PAIRS)),
                 "test.json": lines({"id": 0, "sentence1": "甲", "sentence2": "乙"}),
                 "README.txt": "about"}, {"train": PAIRS, "test": [pair("甲", "乙")]}),
    ("unlabelled", {"test.tsv": "甲\t乙\n"}, {"test": [pair("甲", "乙")]}),
]  # fmt: skip

SNIPS = [tagged("play hey jude", "O B-track I-track", intent="PlayMusic"), tagged("rain ?", "O O", intent="GetWeather")]
ATIS = [tagged("fly to new york", "O O B-toloc.city_name I-toloc.city_name", intent="atis_flight#atis_airfare"),
        tagged("codes", "O", intent="atis_abbreviation")]  # fmt: skip


def three_files(folder: str, records: list[dict[str, Any]]) -> dict[str, str | bytes]:
    return {
        f"{folder}/seq.in": lines(*(" ".join(r["tokens"]) for r in records)),
        f"{folder}/seq.out": lines(*(" ".join(r["tags"]) for r in records)),
        f"{folder}/label": lines(*(r["intent"] for r in records)),
    }


def word_lines(records: list[dict[str, Any]]) -> str:
    return "\n".join(
        "".join(f"{w} {t}\n" for w, t in zip(r["tokens"], r["tags"], strict=True)) + f"{r['intent']}\n" for r in records
    )


ARTICLE = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="zh">
  <siteinfo><sitename>Wikipedia</sitename></siteinfo>
  <page>
    <title>罗马</title><ns>0</ns><id>1</id>
    <revision><id>2</id><text bytes="9" xml:space="preserve">'''罗马'''是[[意大利|義大利]]的城市。{{来源}}

== 历史 ==
很长 &lt;ref&gt;x&lt;/ref&gt;&amp;amp; 很老。</text></revision>
  </page>
  <page><title>R</title><ns>0</ns><redirect title="罗马" /><revision><text>#REDIRECT [[罗马]]</text></revision></page>
  <page><title>Talk:罗马</title><ns>1</ns><revision><text>hello</text></revision></page>
  <page><title>空</title><ns>0</ns><revision><text>{{空}}</text></revision></page>
</mediawiki>
"""
ARTICLE_RECORDS = [{"text": "罗马是義大利的城市。\n\n历史\n很长 & 很老。"}]
WIKI: list[Example] = [
    ("dump", {"zhwiki-20260101-pages-articles.xml": ARTICLE}, {"all": ARTICLE_RECORDS}),
    ("dump, compressed", {"zhwiki-20260101-pages-articles.xml.bz2": bz2.compress(ARTICLE.encode())},
     {"all": ARTICLE_RECORDS}),
    ("wikiextractor", {
        "AA/wiki_00": '<doc id="1" url="https://x/?curid=1" title="甲">\n甲\n\n第一段。\n第二段。\n\n</doc>\n'
                      '<doc id="2" url="" title="乙">\n\n</doc>\n',
        "AA/wiki_01": gzip.compress('<doc id="3" url="" title="丙">\n丙\n</doc>\n'.encode())},
     {"all": [{"text": "甲\n\n第一段。\n第二段。"}, {"text": "丙"}]}),
    ("objects", {"AA/wiki_00": lines({"id": "1", "url": "", "title": "甲", "text": "甲\n\n第一段。"}),
                 "AB/wiki_00": lines({"id": "2", "url": "", "title": "乙", "text": "乙"})},
     {"all": [{"text": "甲\n\n第一段。"}, {"text": "乙"}]}),
]  # fmt: skip


def columns(records: list[tuple[str, str]], between: str = " ") -> str:
    return "\n".join(
        "".join(f"{w}{between}{t}\n" for w, t in zip(words, tags.split(), strict=True)) for words, tags in records
    )


NAMES = [("李白来，", "B-PER I-PER O O"), ("到北京", "O B-LOC I-LOC")]
NAME_RECORDS = [spelt(*record) for record in NAMES]
LATIN = "EU NNP I-NP {}\nrejects VBZ I-VP O\nUN NNP I-NP {}\nEU NNP I-NP {}\n"
LATIN_RECORDS = [tagged("EU rejects UN EU", "B-ORG O B-ORG B-ORG"), tagged("Ada Bee", "B-PER I-PER")]
NEWS = [labelled("股市，上涨", "finance"), labelled('"好 房"', "realty")]
TOPICS = [labelled("比赛 结束", "体育"), labelled("新政策", "时政")]
SENTIMENT = [labelled("很好,推荐", "positive"), labelled('"差"', "negative")]
C3 = [[["男：几点？", "女：三点。"], [
          {"question": "几点?", "choice": ["两点", "三点"], "answer": "三点"},
          {"question": "谁?", "choice": ["男", "女", "男"], "answer": "男"}], "1-1"],
      [["短文。"], [{"question": "甲?", "choice": ["甲", "乙"], "answer": "乙"}], "1-2"]]  # fmt: skip
C3_RECORDS = [
    {"question": "几点?", "context": "男：几点？\n女：三点。", "choices": ["两点", "三点"], "label": 1},
    {"question": "谁?", "context": "男：几点？\n女：三点。", "choices": ["男", "女", "男"], "label": 0},
    {"question": "甲?", "context": "短文。", "choices": ["甲", "乙"], "label": 1},
]
LCSTS = """<doc id=0>
    <summary>
        修改法律
    </summary>
    <short_text>
        今天公布"全文"。
        3 < 4
    </short_text>
</doc>
<doc id=1>
    <summary>第二</summary>
    <short_text>
        第二条。
    </short_text>
</doc>
"""
LCSTS_RECORDS = [{"source": '今天公布"全文"。\n3 < 4', "target": "修改法律"}, {"source": "第二条。", "target": "第二"}]
TITLES = [{"source": "本文，研究A。", "target": "A研究"}, {"source": '"B"', "target": "论B"}]
SCORES = [pair("飞机起飞。", '飞机"起飞', 5.0), pair("a|b", "c", 0.5)]
GLUE = ("index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        '0\tmain\tMSR\t2012\t1\tnone\tnone\t飞机起飞。\t飞机"起飞\t5.000\n'
        "1\tmain\tMSR\t2012\t2\tnone\tnone\ta|b\tc\t.5\n")  # fmt: skip

EXAMPLES: dict[str, list[Example]] = {
    "snips": [
        ("three files", three_files("train", SNIPS) | three_files("valid", SNIPS[:1]) | {"slot_label.txt": "O\n"},
         {"train": SNIPS, "dev": SNIPS[:1]}),
        ("unlabelled", {"test/seq.in": "play it\n"}, {"test": [{"tokens": ["play", "it"]}]}),
        ("blank lines at the end of one file", {"dev/seq.in": "rain ?\n\n\n", "dev/seq.out": "O O\n", "dev/label":
            "GetWeather\n \n"}, {"dev": SNIPS[1:]}),
        ("words in lines", {"dev.txt": word_lines(SNIPS)}, {"dev": SNIPS}),
    ],
    "atis": [
        ("three files", three_files("train", ATIS), {"train": ATIS}),
        ("one line each", {"atis-2.train.w-intent.iob":
            "BOS fly to new york EOS\tO O O B-toloc.city_name I-toloc.city_name atis_flight+atis_airfare\n"
            "BOS codes EOS\tO O atis_abbreviation\n"}, {"train": ATIS}),
        ("words in lines", {"test.txt": word_lines(ATIS)}, {"test": ATIS}),
    ],
    "conll": [
        ("IOB1", {"eng.testa": "-DOCSTART- -X- O O\n\n" + LATIN.format("I-ORG", "I-ORG", "B-ORG")
                  + "\nAda NNP I-NP I-PER\nBee NNP I-NP I-PER\n\n"}, {"dev": LATIN_RECORDS}),
        ("IOB2", {"train.txt": LATIN.format("B-ORG", "B-ORG", "B-ORG")
                  + "\n \nAda NNP B-NP B-PER\nBee NNP I-NP I-PER"}, {"train": LATIN_RECORDS}),
    ],
    "cluener": [
        ("spans, one within another", {
            "train.json": lines({"text": "北京大学李白", "label": {"address": {"北京": [[0, 1]]},
                                 "organization": {"北京大学": [[0, 3]]}, "name": {"李白": [[4, 5]]}}}),
            "dev.json": lines({"text": "白白", "label": {"name": {"白": [[0, 0], [1, 1]]}}},
                              {"text": "无", "label": {}}),
            "test.json": lines({"id": 0, "text": "四川"})},
         {"train": [spelt("北京大学李白", "B-organization I-organization I-organization I-organization B-name I-name")
                    | {"entities": [{"start": 0, "end": 2, "label": "address"},
                                    {"start": 0, "end": 4, "label": "organization"},
                                    {"start": 4, "end": 6, "label": "name"}]}],
          "dev": [spelt("白白", "B-name B-name") | {"entities": [{"start": 0, "end": 1, "label": "name"},
                                                                 {"start": 1, "end": 2, "label": "name"}]},
                  spelt("无", "O") | {"entities": []}],
          "test": [{"tokens": ["四", "川"]}]}),
    ],
    "msra": [
        ("columns", {"msra_train_bio.txt": columns(NAMES, "\t")}, {"train": NAME_RECORDS}),
        ("BMES", {"msra.test": columns([("李白来，", "B-NR E-NR O O"), ("到北京", "O B-NS E-NS")])},
         {"test": NAME_RECORDS}),
        ("cut out", {"testright1.txt": "李白/nr 来，/o \n\n到/o  北京/ns\n1/2/o 京/ns\n"},
         {"test": [*NAME_RECORDS, spelt("1/2京", "O O O B-LOC")]}),
    ],
    "peoples_daily": [
        ("columns", {"example.train": columns(NAMES) + "\n  O\n李 B-PER\n\u3000 O\n"},
         {"train": [*NAME_RECORDS, {"tokens": [" ", "李", "\u3000"], "tags": ["O", "B-PER", "O"]}]}),
        ("unlabelled", {"example.test": "李\n白\n\n来\n"}, {"test": [{"tokens": ["李", "白"]}, {"tokens": ["来"]}]}),
    ],
    "weibo_ner": [
        ("a digit glued to each character", {
            "weiboNER_2nd_conll.train": "男0\tB-PER.NOM\n友1\tI-PER.NOM\n10\tO\n\n10\tO\n😀0\tO\n"},
         {"train": [spelt("男友1", "B-PER.NOM I-PER.NOM O"), spelt("1😀", "O O")]}),
        ("without it", {"weiboNER.dev.bio": "男 B-PER.NOM\n友 I-PER.NOM\n1 O\n"},
         {"dev": [spelt("男友1", "B-PER.NOM I-PER.NOM O")]}),
    ],
    "resume_ner": [
        ("BMES", {"dev.char.bmes": columns([("高勇勇：男", "B-NAME M-NAME E-NAME O S-RACE")])},
         {"dev": [spelt("高勇勇：男", "B-NAME I-NAME I-NAME O B-RACE")]}),
        ("IOBES", {"dev.char": columns([("高勇勇：男", "B-NAME I-NAME E-NAME O S-RACE")])},
         {"dev": [spelt("高勇勇：男", "B-NAME I-NAME I-NAME O B-RACE")]}),
    ],
    "thucnews": [
        ("numbers", {"train.txt": '股市，上涨\t0\n"好 房"\t１\n', "class.txt": "finance\nrealty\n"}, {"train": NEWS}),
        ("topics", {"cnews.val.txt": "体育\t比赛 结束\n时政\t新政策\n"}, {"dev": TOPICS}),
        ("header", {"valid.txt": "text_a\tlabel\n比赛 结束\t体育\n新政策\t时政\n"}, {"dev": TOPICS}),
        ("documents", {"THUCNews/体育/0.txt": "标题\n\u3000\u3000正文。\n", "THUCNews/时政/1.txt": "新政策",
                       "THUCNews/list.md": "x"},
         {"all": [labelled("标题\n\u3000\u3000正文。", "体育"), labelled("新政策", "时政")]}),
    ],
    "tnews": [
        ("objects", {"train.json": lines(
            {"label": "102", "label_desc": "news_entertainment", "sentence": "甜甜圈", "keywords": "圈"},
            {"label": "114", "label_desc": "news_stock", "sentence": "股", "keywords": ""}),
            "test.json": lines({"id": 0, "sentence": "无", "keywords": ""})},
         {"train": [labelled("甜甜圈", "news_entertainment"), labelled("股", "news_stock")], "test": [labelled("无")]}),
        ("fields", {"toutiao_cat_data.txt":
            "65_!_102_!_news_entertainment_!_甜甜圈_!_圈,甜\n66_!_114_!_stock_!_股_!_\n"},
         {"all": [labelled("甜甜圈", "news_entertainment"), labelled("股", "news_stock")]}),
    ],
    "chnsenticorp": [
        ("header, tabs", {"train.tsv": 'label\ttext_a\n1\t很好,推荐\n0\t"差"\n',
                          "dev.tsv": 'qid\tlabel\ttext_a\n0\t1\t很好,推荐\n1\t0\t"差"\n',
                          "test.tsv": "qid\ttext_a\n0\t一般\n"},
         {"train": SENTIMENT, "dev": SENTIMENT, "test": [labelled("一般")]}),
        ("header in capitals", {"dev.tsv": f"{BOM}Label\t {BOM}Text_A\n1\t很好,推荐\n"}, {"dev": SENTIMENT[:1]}),
        ("header, commas", {"ChnSentiCorp_htl_all.csv": f'{BOM}label,review\n1,"很好,推荐"\n0,"""差"""\n'},
         {"all": SENTIMENT}),
        ("a value of several lines", {"a.csv": 'label,review\n1,"一\n\n二"\n'},
         {"all": [labelled("一\n\n二", "positive")]}),
    ],
    "sst2": [
        ("GLUE", {"train.tsv": 'sentence\tlabel\n很好,推荐 \t1\n"差"\t0\n', "test.tsv": "index\tsentence\n0\tok\n"},
         {"train": SENTIMENT, "test": [labelled("ok")]}),
        ("without a header", {"dev.tsv": '很好,推荐\t1\n"差"\t0\n'}, {"dev": SENTIMENT}),
    ],
    **dict.fromkeys(("afqmc", "lcqmc", "bq", "atec"), PAIR_EXAMPLES),
    "stsb": [
        ("GLUE", {"train.tsv": GLUE, "test.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n"},
         {"train": SCORES, "test": [pair("a", "b")]}),
        ("STSbenchmark", {"sts-dev.csv": 'main\tMSR\t2012test\t0001\t5.000\t飞机起飞。\t飞机"起飞\n'
                                         "main\tMSR\t2012test\t0002\t0.5\ta|b\tc\tsource\tsource\n"}, {"dev": SCORES}),
        ("CNSD", {"cnsd-sts-test.txt": '1||飞机起飞。||飞机"起飞||5\n2||a|b||c||0.5\n'}, {"test": SCORES}),
        ("three columns", {"sts-b-train.txt": '飞机起飞。\t飞机"起飞\t５\na|b\tc\t0.5\n'}, {"train": SCORES}),
    ],
    "squad": [
        ("2.0", {"train-v2.0.json": json.dumps(SQUAD)}, {"train": SQUAD_RECORDS}),
        ("hidden answers", {"test.json": json.dumps(HIDDEN)}, {"test": HIDDEN_RECORDS}),
    ],
    "drcd": [("1.1", {"DRCD_training.json": json.dumps(SQUAD, ensure_ascii=False, indent=1)},
              {"train": SQUAD_RECORDS})],
    "cmrc": [
        ("as SQuAD", {"cmrc2018_dev.json": json.dumps(SQUAD)}, {"dev": SQUAD_RECORDS}),
        ("original", {"cmrc2018_trial.json": json.dumps([{
            "context_id": "T0", "context_text": "她在北京，爱北京。", "title": "她",
            "qas": [{"query_id": "T0_Q0", "query_text": "在哪？", "answers": ["北京", "在北京"]}]}])},
         {"trial": [{"id": "T0_Q0", "question": "在哪？", "context": "她在北京，爱北京。",
                     "answers": {"text": ["北京", "在北京"], "answer_start": [2, 1]}}]}),
    ],
    "c3": [("both kinds", {"c3-d-train.json": json.dumps(C3, ensure_ascii=False, indent=1),
                           "c3-m-train.json": json.dumps(C3[1:])}, {"train": [*C3_RECORDS, C3_RECORDS[2]]})],
    "commonsenseqa": CSQA,
    "zh_csqa": CSQA,
    "jd21": [
        ("domains", {"data/train/酒.txt": "12\t酒\tPOS\t5\t很 好 喝 a b \n13\t酒\tNEG\t1\t差 \n",
                     "data/dev/iPhone.txt": "1\tiPhone\tPOS\t5\t好\n", "data/dev/notes.txt": "x"},
         {"06_liquor/train": [labelled("很好喝 a b", "positive"), labelled("差", "negative")],
          "05_iphone/dev": [labelled("好", "positive")]}),
    ],
    "lcsts": [
        ("pseudo XML", {"PART_I.txt": LCSTS, "PART_III.txt":
            LCSTS.replace("<summary>", "<human_label>５</human_label>\n<summary>")},
         {"train": LCSTS_RECORDS, "test": [record | {"human_label": 5} for record in LCSTS_RECORDS]}),
        ("header", {"train.csv": 'summary,text\nA研究,"本文，研究A。"\n论B,"""B"""\n',
                    "test.jsonl": lines({"summary": "A研究", "text": "本文，研究A。"})},
         {"train": TITLES, "test": TITLES[:1]}),
    ],
    "csl": [
        ("objects", {"csl_title_train.json": lines(*({"abst": r["source"], "title": r["target"]} for r in TITLES))},
         {"train": TITLES}),
        ("tasks", {"ts/dev.tsv": 'to title\t本文，研究A。\tA研究\nto title\t"B"\t论B\n'}, {"dev": TITLES}),
        ("all papers", {"csl_camera_readly.tsv": 'A研究\t本文，研究A。\ta_b\t数学\t理学\n论B\t"B"\tb\t数学\t理学\n'},
         {"all": TITLES}),
    ],
    "zh_wiki": WIKI,
    "en_wiki": WIKI,
}  # fmt: skip
