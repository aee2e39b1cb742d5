//! What is done to a prompt before it is tokenized (`prompt_clean` of `WanPipeline`).
//!
//! The reference repairs text with the package `ftfy`, resolves HTML entities twice and joins white space. Of the repairs,
//! those that cannot be wrong are here: quotation marks, ligatures, full-width forms, control characters and line breaks.
//! Text that was decoded with a wrong character set is not guessed at.

use crate::text::unicode::{Form, normalized};

/// The cleaned prompt.
pub(super) fn clean(prompt: &str) -> String {
    let repaired = repair(prompt);
    let resolved = unescape(&unescape(&repaired));
    resolved.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn repair(text: &str) -> String {
    // The reference leaves entities alone where `<` suggests that the text is HTML.
    let text = if text.contains('<') { text.to_owned() } else { unescape(text) };
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // A terminal's colours.
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                while rest.next_if(|c| c.is_ascii_digit() || *c == ';').is_some() {}
                rest.next_if(char::is_ascii_alphabetic);
            }
            '\u{2018}'..='\u{201b}' | '\u{02bc}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            '\u{0132}' => out.push_str("IJ"),
            '\u{0133}' => out.push_str("ij"),
            '\u{0149}' => out.push_str("ʼn"),
            '\u{01f1}'..='\u{01f3}' | '\u{01c4}'..='\u{01cc}' | '\u{fb00}'..='\u{fb06}' => {
                out.push_str(&normalized(c.encode_utf8(&mut [0; 4]), Form::Nfkc));
            }
            // Full and half widths.
            '\u{3000}' | '\u{ff01}'..='\u{ffef}' => out.push_str(&normalized(c.encode_utf8(&mut [0; 4]), Form::Nfkc)),
            '\u{2028}' | '\u{2029}' | '\u{85}' | '\r' => out.push('\n'),
            _ if is_removed(c) => {}
            _ => out.push(c),
        }
    }
    normalized(&out, Form::Nfc)
}

/// Control characters that no text needs.
const fn is_removed(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

/// Entities with a name, of the many that HTML has: those that text is escaped with, and Latin letters and signs that are
/// often written so.
#[rustfmt::skip]
const ENTITIES: [(&str, char); 32] = [
    ("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", '\u{a0}'), ("copy", '©'), ("reg", '®'),
    ("trade", '™'), ("deg", '°'), ("times", '×'), ("middot", '·'), ("hellip", '…'), ("ndash", '–'), ("mdash", '—'), ("bull", '•'),
    ("lsquo", '‘'), ("rsquo", '’'), ("ldquo", '“'), ("rdquo", '”'), ("laquo", '«'), ("raquo", '»'), ("euro", '€'), ("pound", '£'),
    ("auml", 'ä'), ("ouml", 'ö'), ("uuml", 'ü'), ("szlig", 'ß'), ("eacute", 'é'), ("egrave", 'è'), ("agrave", 'à'), ("ccedil", 'ç'),
];

/// Resolves entities by number and those of [`ENTITIES`].
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let resolved = after.find(';').filter(|end| *end <= 32).and_then(|end| Some((entity(&after[..end])?, end)));
        match resolved {
            Some((c, end)) => {
                out.push(c);
                rest = &after[end + 1..];
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out + rest
}

/// The character of the entity `&name;`.
fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hexadecimal = number.strip_prefix(['x', 'X']);
        let code = hexadecimal.map_or_else(|| number.parse(), |digits| u32::from_str_radix(digits, 16)).ok()?;
        return char::from_u32(code).filter(|c| *c != '\0');
    }
    ENTITIES.iter().find(|(known, _)| *known == name).map(|(_, c)| *c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_becomes_single_spaces() {
        assert_eq!(clean("  a cat\t\r\n on\u{3000}the\u{a0}moon "), "a cat on the moon", "of every kind, and none at the ends");
        assert_eq!(clean(""), "", "nothing stays nothing");
    }

    #[test]
    fn entities_are_resolved_even_if_escaped_twice() {
        assert_eq!(clean("salt &amp;amp; pepper &lt;3 &#233;&#xE9;"), "salt & pepper <3 éé", "by name and number");
        assert_eq!(clean("R&D; &unknown; 5 & 6 &"), "R&D; &unknown; 5 & 6 &", "what is no entity stays");
    }

    #[test]
    fn what_word_processors_do_is_undone() {
        assert_eq!(clean("“It’s” ﬁne"), "\"It's\" fine", "quotation marks and ligatures");
        assert_eq!(clean("ＦＵＬＬ！ ｶﾞ"), "FULL! ガ", "widths");
        assert_eq!(clean("e\u{301}\u{feff}\u{7}\u{1b}[31mred\u{1b}[0m"), "éred", "composed, without control characters");
    }
}
