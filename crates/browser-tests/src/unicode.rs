//! Whether the browser knows the same Unicode as the tables that other targets read.

use kinora_runtime::text::unicode::{Form, graphemes, normalized, without_marks};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;
use wasm_bindgen::prelude::wasm_bindgen;

/// Between characters: nothing composes with it, and it is a grapheme by itself.
const APART: char = '\n';
/// Characters in one call of the browser.
const BATCH: usize = 4096;
/// What can stand around a character: a consonant with a virama, a Hangul consonant, a picture with a joiner.
const AROUND: [&str; 3] = ["\u{915}\u{94d}", "\u{1100}", "\u{1f469}\u{200d}"];

/// Code points of which the browser says something else, in normalization, marks or graphemes, each with what that is. Whether they
/// are assigned is for the caller to look at: the two may be of different versions.
#[wasm_bindgen]
#[must_use]
pub fn unicode_differences() -> Vec<String> {
    let mut found = Vec::new();
    let characters: Vec<char> = ('\0'..=char::MAX).filter(|&c| c != APART).collect();
    for batch in characters.chunks(BATCH) {
        differences(batch, &mut found, "NFC", |text| normalized(text, Form::Nfc), |text| text.nfc().collect());
        differences(batch, &mut found, "NFD", |text| normalized(text, Form::Nfd), |text| text.nfd().collect());
        differences(batch, &mut found, "NFKC", |text| normalized(text, Form::Nfkc), |text| text.nfkc().collect());
        differences(batch, &mut found, "NFKD", |text| normalized(text, Form::Nfkd), |text| text.nfkd().collect());
        differences(batch, &mut found, "marks", without_marks, |text| text.chars().filter(|&c| !is_combining_mark(c)).collect());
    }
    // Ideographs, Hangul syllables and private characters are alike by the ten thousands.
    let alike = |c: char| matches!(c, '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{e000}'..='\u{f8ff}' | '\u{20000}'..='\u{3ffff}' | '\u{f0000}'..);
    let some: Vec<char> = characters.into_iter().filter(|&c| !alike(c) || (c as u32).is_multiple_of(251)).collect();
    for around in AROUND {
        let framed = |text: &str, cut: fn(&str) -> String| {
            let texts: String = text.chars().map(|c| if c == APART { c.to_string() } else { format!("{around}{c}{around}") }).collect();
            cut(&texts)
        };
        for batch in some.chunks(BATCH) {
            let crates = |text: &str| text.graphemes(true).collect::<Vec<_>>().join("|");
            differences(batch, &mut found, "graphemes", |t| framed(t, |t| graphemes(t).join("|")), |t| framed(t, crates));
        }
    }
    found
}

fn differences(batch: &[char], found: &mut Vec<String>, what: &str, browser: impl Fn(&str) -> String, crates: impl Fn(&str) -> String) {
    let texts: String = batch.iter().flat_map(|&c| [c, APART]).collect();
    if browser(&texts) == crates(&texts) {
        return;
    }
    let wrong = |c: &&char| browser(c.encode_utf8(&mut [0; 4])) != crates(c.encode_utf8(&mut [0; 4]));
    found.extend(batch.iter().filter(wrong).map(|&c| format!("{:x} {what}", u32::from(c))));
}
