"""Strings to tokenise: prompts first, then everything a text field can contain. Deterministic."""

import random
import unicodedata

SUBJECTS = ("rocket", "tiger face", "beating heart", "penguin", "taxi", "cup of coffee", "alien", "robot", "whale",
            "spinning planet", "old violin", "paper airplane", "sleeping cat", "lighthouse", "jack-o'-lantern")
VERBS = ("flying", "dancing", "jumping", "waving", "spinning slowly", "melting", "growing", "walking", "singing")
PLACES = ("on a blue background", "over the ocean at sunset", "in the rain", "under water", "on Mars",
          "in a crowded street, 35mm film, shallow depth of field", "on a green background", "in deep space")
STYLES = ("", ", 3D render", ", cinematic lighting", ", watercolor", " (best quality:1.3)", " -- no text", "; loop")

LANGUAGES = (
    "un cœur qui bat sur fond bleu", "Ein fliegender Bär über Köln, größer als üblich", "El niño corrió al jardín",
    "São Paulo à noite, coração", "Příliš žluťoučký kůň úpěl ďábelské ódy", "Zażółć gęślą jaźń",
    "Iñtërnâtiônàlizætiøn", "İstanbul'da ılık bir gün, IĞDIR", "Straße ẞ ß", "Ὀδυσσεύς καὶ ὁ Κύκλωψ", "ΣΊΣΥΦΟΣ σίσυφος",
    "Съешь же ещё этих мягких французских булок", "Їжак і ґава", "שָׁלוֹם עוֹלָם", "مرحبا بالعالم، كيف حالك؟", "یک گربه‌ی سیاه",
    "नमस्ते दुनिया", "বাংলা ভাষা", "வணக்கம் உலகம்", "สวัสดีชาวโลก", "မင်္ဂလာပါ", "გამარჯობა", "Բարեւ աշխարհ", "ሰላም ልዑል",
    "一只在月球上跳舞的熊猫", "東京タワーの上を飛ぶロケット", "ｶﾞｷﾞｸﾞ ﾊﾟﾋﾟ ｱｲｳ", "ＦＵＬＬ　ＷＩＤＴＨ　１２３！", "안녕하세요 세계",
    "각 각 한글", "繁體中文與简体中文", "𠀀𠀁𠮷野家", "𝒞𝓊𝓇𝓈𝒾𝓋𝑒 𝔉𝔯𝔞𝔨𝔱𝔲𝔯 𝟘𝟙𝟚", "Ａ㎏㎜²½⅔Ⅷⅻ①⒈㈱℡™℃Ω", "ﬁﬂﬃ ﷺ ĳ ŉ ǆ",
    "e\u0301e\u0301 n\u0303 a\u030a\u0323 o\u0302\u0301", "Z\u0351\u036b\u0343\u036aa\u0302l\u0328g\u0321o\u0334",
    "q\u0307\u0323 q\u0323\u0307", "\u1e9b\u0323", "\u0344 \u0958 \u2126 \u212b \uf900",
)

EMOJI = ("😀", "🚀", "❤️", "❤", "👍🏽", "👩‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯🇵🇧🇷", "1️⃣", "☃", "🫠", "🧑🏿‍🦽", "™️", "🀄", "⌚", "🪿")

ODD = (
    "", " ", "  ", "\t", "\n", "\r\n", " \t\n ", "\u00a0", "\u3000", "\u2003\u2009", "\u200b", "\u200d", "\u2060", "\ufeff",
    "\u00ad", "soft\u00adhyphen", "zero\u200bwidth\u200cjoin\u200der", "\ufeffbom", "left\u200eright\u200fmark", "\u202eoverride\u202c",
    "\x00", "nul\x00inside", "\x07bell", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x85\x9f", "line\u2028sep\u2029para", "a\x0bb\x0cc",
    "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\ue000private", "\U000f0000", "\U000e0041tag", "\u0378unassigned",
    "[CLS]", "[SEP] [MASK]", "a[MASK]b", "[UNK]", "[unk]", "[PAD][PAD]", "</s>", "a </s> b", "<pad>", "<unk>", "<extra_id_0>",
    "x<extra_id_1>y", "<extra_id_7> z", "<s>", "<|endoftext|>", "▁", "▁▁a", "a▁b", "_under_score_", "##ing", "##", "# #ing",
    "don't won't can't it's", "...", "!!!???", "a,b;c:d.e", "(a)[b]{c}<d>", "\"quoted\" 'single' `tick`", "100% $5.99 €3 £2 ¥1",
    "C++ & C# / F#", "e-mail@example.org https://example.org/a?b=c&d=%20#e", "1,234,567.89", "3.14159e-10", "0x1F600",
    "－―‐‑‒–—−", "„“”‚‘’«»", "¿¡§¶†‡•…‰′″", "a  b   c    d", "  lead", "trail  ", "\ttab\tsep\t", "MiXeD CaSe WORDS",
    "x" * 99, "x" * 100, "x" * 101, "é" * 100, "猫" * 60, "a b " * 40, "'; DROP TABLE prompts; --", "{{7*7}}", "%s%n%x",
    "ab" + "\u0301" * 40, "\u0301", "\u0301a", "😀" * 30, "-" * 120, "." * 70, "\u0130", "\u0131", "\u1e9e", "ǅ", "ﬀ",
)

# About 10,000 characters each; stored as text and count.
LONG = (
    ("a rocket flying on a blue background, ", 264),
    ("x", 10_000),
    ("猫", 10_000),
    ("e\u0301 ", 3_334),
    (" ", 10_000),
    ("👩‍🚀", 3_334),
)

BLOCKS = ((0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
          (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x7BF), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x11FF),
          (0x1200, 0x18AF), (0x1D00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x23FF), (0x2400, 0x2BFF), (0x2C00, 0x2FFF),
          (0x3000, 0x30FF), (0x3100, 0x33FF), (0x3400, 0x4DFF), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7FF),
          (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFEFF), (0xFF00, 0xFFEF), (0x10000, 0x1FFFF), (0x20000, 0x2FA1F))


def prompts():
    for i in range(420):
        subject, verb = SUBJECTS[i % len(SUBJECTS)], VERBS[i % len(VERBS)]
        text = f"{'An' if subject[0] in 'aeo' else 'A'} {subject} {verb} {PLACES[i % 8]}{STYLES[i % 7]}"
        yield text if i % 3 else text.lower()


def assigned(code: int) -> bool:
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


def random_strings(count: int):
    """Characters of one, two or many blocks; the code points sit in no word and no vocabulary."""
    rng = random.Random(20261122)
    pool = [[c for c in range(low, high + 1) if assigned(c)] for low, high in BLOCKS]
    for i in range(count):
        chosen = rng.sample(pool, k=rng.choice((1, 1, 2, 3, 6)))
        text = "".join(chr(rng.choice(rng.choice(chosen))) for _ in range(rng.randint(1, 16)))
        if i % 4 == 0:
            text = rng.choice(SUBJECTS) + rng.choice(("", " ", "  ", "\u200b")) + text
        yield text


def mixtures(count: int):
    """Fragments of everything above, glued with or without spaces, some in another normal form."""
    rng = random.Random(7)
    pieces = SUBJECTS + VERBS + LANGUAGES + EMOJI + tuple(o for o in ODD if len(o) < 30)
    for i in range(count):
        text = rng.choice(("", " ", " ", "\n")).join(rng.sample(pieces, k=rng.randint(1, 4)))
        form = ("NFC", "NFD", "NFKC", "NFKD", None, None)[i % 6]
        yield unicodedata.normalize(form, text) if form else text


def training_text() -> list[str]:
    """What the two small vocabularies are trained on."""
    return [*prompts(), *(LANGUAGES * 6), *(ODD[40:70]), *EMOJI]


def entries() -> list[str | tuple[str, int]]:
    """Each entry is a text, or a text and how often it is repeated."""
    chosen = [*ODD, *LANGUAGES, *(t.upper() for t in LANGUAGES), *EMOJI, *LONG, *prompts(),
              *mixtures(700), *random_strings(1000)]
    return list(dict.fromkeys(chosen))
