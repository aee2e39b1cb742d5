//! Token ids against the reference library, on every string of the golden corpus.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use kinora_runtime::text::Tokenizer;
use kinora_runtime::weights::Checkpoint;
use serde_json::{Value, json};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizer").join(name)
}

fn corpus() -> Vec<String> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Text(String),
        Repeated(String, usize),
    }
    let entries: Vec<Entry> = serde_json::from_slice(&fs::read(golden("corpus.json")).unwrap()).unwrap();
    let text = |entry| match entry {
        Entry::Text(text) => text,
        Entry::Repeated(text, times) => text.repeat(times),
    };
    entries.into_iter().map(text).collect()
}

/// A tokenizer file with some parts replaced.
fn variant(file: &str, changes: &Value) -> Tokenizer {
    Tokenizer::from_json(altered(file, changes).to_string().as_bytes()).unwrap()
}

fn altered(file: &str, changes: &Value) -> Value {
    let mut json: Value = serde_json::from_slice(&fs::read(golden(file)).unwrap()).unwrap();
    for (pointer, value) in changes.as_object().unwrap() {
        *json.pointer_mut(pointer).unwrap() = value.clone();
    }
    json
}

fn assert_exact(tokenizer: &Tokenizer, ids: &str) {
    let stored = Checkpoint::open(golden(ids)).unwrap();
    let numbers = |name| stored.get(name).unwrap().to_i64().unwrap();
    let (mut rest, corpus) = (&numbers("ids")[..], corpus());
    let lengths = numbers("lengths");
    assert!(corpus.len() >= 2000 && corpus.len() == lengths.len(), "{} strings", corpus.len());
    let mut wrong = Vec::new();
    let compared = lengths.iter().filter(|length| **length >= 0).count();
    assert!(compared >= 2000, "{compared} strings");
    // A length of −1 stands for a text that is left out.
    for (text, length) in corpus.iter().zip(lengths).filter(|(_, length)| *length >= 0) {
        let (expected, after) = rest.split_at(usize::try_from(length).unwrap());
        rest = after;
        let found: Vec<i64> = tokenizer.encode(text, usize::MAX).ids.into_iter().map(i64::from).collect();
        if found != expected {
            wrong.push(format!("{:?}\n  found    {found:?}\n  expected {expected:?}", text.chars().take(60).collect::<String>()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{ids}: {} of {} strings differ, e.g.\n{}",
        wrong.len(),
        corpus.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
}

#[test]
fn wordpiece_ids_are_exact() {
    assert_exact(&Tokenizer::from_file(golden("wordpiece.json")).unwrap(), "wordpiece.ids.safetensors");
}

#[test]
fn cased_wordpiece_ids_are_exact() {
    assert_exact(&variant("wordpiece.json", &json!({ "/normalizer/lowercase": false })), "wordpiece_cased.ids.safetensors");
}

#[test]
fn unigram_ids_are_exact() {
    assert_exact(&Tokenizer::from_file(golden("unigram.json")).unwrap(), "unigram.ids.safetensors");
}

#[test]
fn the_first_t5_pipeline_gives_the_same_ids() {
    let charsmap = altered("unigram.json", &json!({}))["normalizer"]["normalizers"][0].take();
    let tokenizer = variant(
        "unigram.json",
        &json!({
            "/normalizer": charsmap,
            "/pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "WhitespaceSplit" },
                { "type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": true },
            ] },
        }),
    );
    assert_exact(&tokenizer, "unigram.ids.safetensors");
}

#[test]
fn unknown_characters_are_spelled_in_bytes() {
    let mut json = altered("unigram.json", &json!({ "/model/byte_fallback": true }));
    let vocabulary = json["model"]["vocab"].as_array_mut().unwrap();
    let known = vocabulary.len() as u64;
    vocabulary.extend((0..=255).map(|byte| json!([format!("<0x{byte:02X}>"), 0.0])));
    // The tokens added behind the vocabulary move on.
    for token in json["added_tokens"].as_array_mut().unwrap() {
        let id = token["id"].as_u64().unwrap();
        token["id"] = json!(if id < known { id } else { id + 256 });
    }
    let tokenizer = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
    assert_exact(&tokenizer, "unigram_bytes.ids.safetensors");
    // Without a token for each byte nothing is spelled.
    let plain = variant("unigram.json", &json!({ "/model/byte_fallback": true }));
    assert_exact(&plain, "unigram.ids.safetensors");
}

#[test]
fn byte_pair_ids_are_exact() {
    assert_exact(&Tokenizer::from_file(golden("bpe.json")).unwrap(), "bpe.ids.safetensors");
}

#[test]
fn byte_pair_ids_with_the_words_of_gpt2_are_exact() {
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
    let changes = json!({ "/model/end_of_word_suffix": null, "/normalizer": null, "/post_processor": null, "/pre_tokenizer": bytes });
    assert_exact(&variant("bpe.json", &changes), "bpe_byte_level.ids.safetensors");
}

#[test]
fn early_byte_pair_files_write_a_merge_as_one_string() {
    let mut json = altered("bpe.json", &json!({}));
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    for merge in merges.iter_mut() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    let early = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
    assert_exact(&early, "bpe.ids.safetensors");
}

#[test]
fn long_prompts_are_cut_before_the_special_tokens() {
    let bert = Tokenizer::from_file(golden("wordpiece.json")).unwrap();
    let whole = bert.encode("a rocket flying", 100);
    assert!(!whole.truncated, "it fits");
    let n = whole.ids.len();
    assert_eq!(bert.encode("a rocket flying", n), whole, "an exact fit is not a truncation");
    let cut = bert.encode("a rocket flying", n - 1);
    assert!(cut.truncated, "one too many");
    assert_eq!(cut.ids[..n - 2], whole.ids[..n - 2], "the beginning stays");
    assert_eq!(cut.ids.last(), bert.id("[SEP]").as_ref(), "the last token stays");
    assert_eq!(bert.encode("a rocket", 0).ids.len(), 2, "special tokens are never cut");
}

#[test]
fn files_of_early_versions_are_read() {
    let mut json =
        altered("wordpiece.json", &json!({ "/post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] } }));
    json["model"].as_object_mut().unwrap().remove("type");
    let early = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
    assert_exact(&early, "wordpiece.ids.safetensors");
}

#[test]
fn added_tokens_swallow_spaces_if_they_say_so() {
    let tokenizer = variant("wordpiece.json", &json!({ "/added_tokens/4/lstrip": true, "/added_tokens/4/rstrip": true }));
    assert_eq!(tokenizer.encode("a \t[MASK]\n b", 9).ids, tokenizer.encode("a[MASK]b", 9).ids, "BERT drops spaces anyway");
    let tokenizer = variant("unigram.json", &json!({ "/added_tokens/3/rstrip": true, "/pre_tokenizer/prepend_scheme": "first" }));
    let ids = |text| tokenizer.encode(text, 99).ids;
    assert_eq!(ids("<extra_id_0>  a"), ids("<extra_id_0>a"), "spaces behind the token go");
    assert_ne!(ids("<extra_id_1> a"), ids("<extra_id_1>a"), "spaces behind another token stay");
}

/// A character map that knows nothing and has this replacement, in base64: a trie of one unit.
fn base64_of_a_map(replacement: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = [&[4, 0, 0, 0, 0, 0, 0, 0], replacement.as_bytes()].concat();
    bytes.resize(bytes.len().next_multiple_of(3), 0);
    let four = |three: &[u8]| {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]))
    };
    bytes.chunks(3).flat_map(four).collect()
}

#[test]
fn unusable_files_are_refused() {
    let charsmap = "/normalizer/normalizers/0/precompiled_charsmap";
    let bomb = |step: Value| json!({ "/normalizer": { "type": "Sequence", "normalizers": vec![step; 40] } });
    let double = |pattern: Value| json!({ "type": "Replace", "pattern": pattern, "content": "aa" });
    let long: String = base64_of_a_map(&"a".repeat(501));
    let cases = [
        ("wordpiece.json", json!({ "/model/type": "WordLevel" }), "`WordLevel` is not supported"),
        ("wordpiece.json", json!({ "/model/unk_token": "[absent]" }), "unknown"),
        ("wordpiece.json", json!({ "/model/vocab": [] }), "WordPiece"),
        ("wordpiece.json", json!({ "/normalizer/type": "Nmt" }), "Nmt"),
        ("wordpiece.json", json!({ "/pre_tokenizer/type": "Digits" }), "Digits"),
        ("wordpiece.json", json!({ "/post_processor/special_tokens": {} }), "`[CLS]` is not defined"),
        ("wordpiece.json", json!({ "/added_tokens/0/single_word": true }), "single words"),
        ("wordpiece.json", json!({ "/added_tokens/0/content": "" }), "empty"),
        ("unigram.json", json!({ "/model/unk_id": null }), "unknown"),
        ("unigram.json", json!({ "/model/unk_id": 1_000_000 }), "unknown"),
        ("unigram.json", json!({ "/normalizer/normalizers/2/pattern": { "Regex": "a+" } }), "`a+` is not supported"),
        ("unigram.json", json!({ "/normalizer/normalizers/2/pattern": { "String": "" } }), "empty pattern"),
        ("bpe.json", json!({ "/model/unk_token": "[absent]" }), "`[absent]`, which the vocabulary lacks"),
        ("bpe.json", json!({ "/model/merges/3": ["a", "absent"] }), "`absent`, which the vocabulary lacks"),
        ("bpe.json", json!({ "/model/merges/3": "one" }), "merge 3 is not a pair"),
        ("bpe.json", json!({ "/pre_tokenizer/pretokenizers/0/pattern": { "Regex": "a+" } }), "`a+` is not supported"),
        ("bpe.json", json!({ "/pre_tokenizer/pretokenizers/0/pattern": { "String": "a" } }), "only at expressions"),
        ("bpe.json", json!({ "/pre_tokenizer/pretokenizers/0/behavior": "MergedWithNext" }), "MergedWithNext"),
        ("wordpiece.json", bomb(double(json!({ "String": "a" }))), "more than 500 bytes of one"),
        ("unigram.json", bomb(double(json!({ "Regex": r"\s+" }))), "more than 500 bytes of one"),
        ("bpe.json", bomb(json!({ "type": "Prepend", "prepend": "a" })), "more than 500 bytes of one"),
        ("unigram.json", json!({ (charsmap): long }), "more than 500 bytes of one"),
        ("unigram.json", json!({ (charsmap): "" }), "charsmap is empty"),
        ("unigram.json", json!({ (charsmap): "?!" }), "not base64"),
        ("unigram.json", json!({ (charsmap): "/////wAA" }), "cut off"),
        ("unigram.json", json!({ (charsmap): "BQAAAAAAAAAA" }), "32-bit units"),
    ];
    for (file, changes, reason) in cases {
        let error = Tokenizer::from_json(altered(file, &changes).to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code(), "invalid-tokenizer", "{changes}");
        assert!(error.to_string().contains(reason), "{changes}: `{error}` does not say `{reason}`");
    }
    assert_eq!(Tokenizer::from_file(golden("absent.json")).unwrap_err().code(), "not-found", "no file");
    assert_eq!(Tokenizer::from_json(b"{").unwrap_err().code(), "invalid-tokenizer", "not JSON");
}

#[test]
fn a_damaged_charsmap_never_panics() {
    let json = altered("unigram.json", &json!({}));
    let pointer = "/normalizer/normalizers/0/precompiled_charsmap";
    let map = json.pointer(pointer).unwrap().as_str().unwrap();
    for at in (0..map.len() / 4 * 3).step_by(9973) {
        let mut damaged = map.to_owned();
        damaged.replace_range(at..at + 6, "///+++");
        if let Ok(tokenizer) = Tokenizer::from_json(altered("unigram.json", &json!({ (pointer): damaged })).to_string().as_bytes()) {
            assert!(tokenizer.encode("ﬁne Ⅷ ①🚀\u{1d400} e\u{301}", 64).ids.len() < 64, "damage at {at}");
        }
    }
}

#[test]
fn tokenizers_inside_of_weight_files_give_the_same_ids() {
    let whole = Tokenizer::from_json(&fs::read(golden("unigram.json")).unwrap()).unwrap();
    let folder = golden("../gguf");
    let spiece = fs::read(folder.join("spiece.model")).unwrap();
    let header = format!(r#"{{"spiece_model":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, spiece.len());
    let comfy = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &spiece].concat();
    let comfy = Checkpoint::from_files("comfy", vec![("comfy".into(), comfy)]).unwrap();
    let llama = Checkpoint::open(folder.join("tokenizer.gguf")).unwrap();
    // The GGUF fixture has no map of characters: plain text needs none.
    let plain = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    for (file, fits) in [(&comfy, &(|_: &str| true) as &dyn Fn(&str) -> bool), (&llama, &plain)] {
        let own = Tokenizer::from_json(&file.tokenizer().unwrap().expect("it has one")).unwrap();
        // T5's tokens for gaps are no part of a vocabulary.
        let texts: Vec<String> = corpus().into_iter().filter(|text| fits(text) && !text.contains("<extra_id_")).collect();
        assert!(texts.len() > 300, "{} strings", texts.len());
        for text in texts {
            assert_eq!(own.encode(&text, usize::MAX), whole.encode(&text, usize::MAX), "{file:?}: {text:?}");
        }
    }
    for cut in [1, 100, spiece.len() / 2, spiece.len() - 1] {
        let header = format!(r#"{{"spiece_model":{{"dtype":"U8","shape":[{cut}],"data_offsets":[0,{cut}]}}}}"#);
        let cut = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &spiece[..cut]].concat();
        let error = Checkpoint::from_files("cut", vec![("cut".into(), cut)]).unwrap().tokenizer().unwrap_err();
        assert_eq!(error.code(), "invalid-tokenizer", "{error}");
    }
    assert!(Checkpoint::open(folder.join("small.gguf")).unwrap().tokenizer().unwrap().is_none(), "none inside");
}
