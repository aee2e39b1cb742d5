//! The little English that finds what a prompt is about: words, where phrases end, and which words carry nothing.

/// A word of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// As typed, without punctuation around it.
    pub(super) text: String,
    /// Lower case without apostrophes, corrected where it was misspelt.
    pub(super) plain: String,
    /// Whether it was.
    pub(super) misspelt: bool,
    /// Whether punctuation follows that ends a phrase.
    pub(super) stop: bool,
}

/// Words that say nothing about what is seen.
const EMPTY: &[&str] = &[
    "a",
    "an",
    "the",
    "some",
    "any",
    "this",
    "that",
    "these",
    "those",
    "my",
    "your",
    "his",
    "her",
    "its",
    "our",
    "their",
    "i",
    "im",
    "ive",
    "id",
    "you",
    "youre",
    "he",
    "she",
    "it",
    "we",
    "they",
    "me",
    "him",
    "us",
    "them",
    "is",
    "isnt",
    "are",
    "am",
    "was",
    "were",
    "be",
    "been",
    "being",
    "has",
    "have",
    "had",
    "do",
    "does",
    "did",
    "will",
    "would",
    "can",
    "could",
    "should",
    "may",
    "might",
    "must",
    "so",
    "very",
    "really",
    "too",
    "just",
    "only",
    "not",
    "no",
    "yes",
    "there",
    "here",
    "then",
    "now",
    "right",
    "today",
    "when",
    "where",
    "who",
    "which",
    "what",
    "how",
    "please",
    "want",
    "wants",
    "let",
    "lets",
    "get",
    "gets",
    "got",
    "if",
    "all",
    "also",
    "again",
    "ever",
    "much",
    "more",
    "most",
    "own",
    "well",
    "out",
    "up",
    "down",
    "off",
    "away",
    "something",
    "thing",
    "one",
    "feel",
    "feels",
    "full",
    "s",
    "quite",
    "front",
];
/// What phrases begin with that only say where, with what or how.
const PREPOSITIONS: &[&str] = &[
    "in", "on", "at", "under", "over", "above", "below", "by", "near", "with", "without", "from", "into", "onto", "through", "across",
    "around", "behind", "before", "after", "against", "between", "beside", "along", "like", "as", "to", "for", "inside", "outside",
    "during", "about", "toward",
];
/// What stands between two things.
const CONJUNCTIONS: &[&str] = &["and", "or", "vs", "versus", "plus", "next", "while", "meets", "but", "because", "&"];
/// Whoever: says nothing about what the person is or does.
const ANYONE: &[&str] = &[
    "man", "men", "woman", "women", "boy", "boys", "girl", "girls", "guy", "guys", "person", "people", "someone", "somebody", "everyone",
    "kid", "kids", "child", "children", "lady", "dude", "old", "young", "little", "couple", "family",
];
/// Amounts before "of".
const AMOUNTS: &[&str] = &[
    "pair", "couple", "group", "herd", "flock", "bunch", "pack", "lot", "lots", "swarm", "bouquet", "piece", "slice", "pile", "crowd",
    "family", "team", "school", "kind",
];
/// How requests begin.
const REQUESTS: &[&str] = &[
    "please", "can", "could", "would", "will", "you", "i", "id", "we", "want", "need", "like", "love", "to", "see", "make", "create",
    "generate", "draw", "paint", "render", "animate", "show", "give", "me", "us", "lets", "let",
];
/// The verbs among them, without which there is no request.
const ASKS: &[&str] = &["see", "make", "create", "generate", "draw", "paint", "render", "animate", "show", "give"];
/// What is made, before "of".
const MEDIA: &[&str] = &[
    "video",
    "clip",
    "animation",
    "gif",
    "movie",
    "film",
    "picture",
    "image",
    "photo",
    "photograph",
    "drawing",
    "painting",
    "sketch",
    "cartoon",
    "illustration",
    "emoji",
    "shot",
    "footage",
    "scene",
    "closeup",
    "view",
    "portrait",
];
/// Words that end as participles do and are none.
const NO_PARTICIPLES: &[&str] = &[
    "king",
    "ring",
    "wing",
    "thing",
    "string",
    "spring",
    "sting",
    "being",
    "building",
    "wedding",
    "ceiling",
    "evening",
    "morning",
    "lightning",
    "duckling",
    "fledgling",
    "viking",
    "pudding",
    "sibling",
    "darling",
    "clothing",
    "earring",
    "offspring",
    "something",
    "nothing",
    "everything",
    "painting",
];
/// What else ends a verb, as in "taking off".
const PARTICLES: &[&str] = &["off", "up", "down", "out", "around", "away"];

fn is(list: &[&str], word: &str) -> bool {
    list.contains(&word)
}

impl Word {
    /// As the text encoder shall read it.
    pub(super) fn corrected(&self) -> &str {
        if self.misspelt { &self.plain } else { &self.text }
    }

    /// Whether it says something by itself.
    pub(super) fn is_content(&self) -> bool {
        !is(EMPTY, &self.plain) && !self.is_break() && self.plain != "of"
    }

    pub(super) fn is_preposition(&self) -> bool {
        is(PREPOSITIONS, &self.plain)
    }

    pub(super) fn is_break(&self) -> bool {
        self.is_preposition() || is(CONJUNCTIONS, &self.plain)
    }

    pub(super) fn is_anyone(&self) -> bool {
        is(ANYONE, &self.plain)
    }

    pub(super) fn is_amount(&self) -> bool {
        is(AMOUNTS, &self.plain)
    }

    pub(super) fn is_particle(&self) -> bool {
        is(PARTICLES, &self.plain)
    }

    /// An article or the like, after which a noun comes.
    pub(super) fn is_determiner(&self) -> bool {
        EMPTY[..16].contains(&self.plain.as_str())
    }

    /// A verb as captions have it, "flying".
    pub(super) fn is_participle(&self) -> bool {
        self.plain.len() > 4 && self.plain.ends_with("ing") && !is(NO_PARTICIPLES, &self.plain)
    }
}

/// Whether the word is one of grammar, which stands for no object.
pub(super) fn is_grammar(word: &str) -> bool {
    is(EMPTY, word) || is(PREPOSITIONS, word) || is(CONJUNCTIONS, word) || is(REQUESTS, word) && word != "love"
}

/// Lower case, letters and digits alone.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The words of a text; hyphens separate, apostrophes do not.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for part in text.split(|c: char| c.is_whitespace() || matches!(c, '-' | '/' | '_')) {
        let mut rest = part;
        // "dogs,cats" is two words.
        while !rest.is_empty() {
            let end = rest.find([',', '.', ';', '!', '?', ':', '(', ')']).unwrap_or(rest.len());
            let (own, after) = rest.split_at(end);
            let text = own.trim_matches(|c: char| !c.is_alphanumeric() && c != '&');
            let plain = if text == "&" { text.to_owned() } else { plain(text) };
            if !plain.is_empty() {
                words.push(Word { text: text.to_owned(), plain, misspelt: false, stop: false });
            }
            if let (Some(mark), Some(last)) = (after.chars().next(), words.last_mut()) {
                last.stop = true;
                rest = &after[mark.len_utf8()..];
            } else {
                rest = after.get(1..).unwrap_or_default();
            }
        }
    }
    words
}

/// How many words at the beginning only ask for something to be made.
pub(super) fn lead(words: &[Word]) -> usize {
    let mut start = 0;
    loop {
        let rest = &words[start..];
        let run = rest.iter().take_while(|word| is(REQUESTS, &word.plain)).count();
        let asks = rest[..run].iter().rposition(|word| is(ASKS, &word.plain));
        let for_whom = |at: usize| rest[at + 1..run].iter().take_while(|word| matches!(word.plain.as_str(), "me" | "us")).count();
        let asked = asks.map_or(0, |at| at + 1 + for_whom(at));
        let rest = &rest[asked..];
        let of = rest.iter().take(6).position(|word| word.plain == "of");
        let media = of.filter(|of| *of > 0 && is(MEDIA, &rest[of - 1].plain)).map_or(0, |of| of + 1);
        if asked + media == 0 || start + asked + media >= words.len() {
            return start;
        }
        start += asked + media;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_lead(text: &str) -> String {
        let words = words(text);
        words[lead(&words)..].iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn requests_are_taken_off_and_nothing_else() {
        for (text, expected) in [
            ("Please make me a video of a cat", "a cat"),
            ("I would like to see a red ball rolling", "a red ball rolling"),
            ("could you draw two ducks?", "two ducks"),
            ("slow motion close-up shot of an eagle", "an eagle"),
            ("show me", "show me"),
            ("I love you", "I love you"),
            ("a cup of tea", "a cup of tea"),
            ("a show of hands", "a show of hands"),
            ("", ""),
        ] {
            assert_eq!(without_lead(text), expected, "{text}");
        }
    }

    #[test]
    fn words_end_at_spaces_hyphens_and_marks() {
        let found: Vec<(String, bool)> = words("A T-Rex,it's \"big\"... & 🐉 !").into_iter().map(|word| (word.plain, word.stop)).collect();
        let expected = [("a", false), ("t", false), ("rex", true), ("its", false), ("big", true), ("&", true)];
        assert_eq!(found, expected.map(|(word, stop)| (word.to_owned(), stop)));
    }
}
