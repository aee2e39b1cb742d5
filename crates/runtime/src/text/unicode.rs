//! What Unicode says of strings: by the tables of crates, and in a browser by the browser, which has the same tables already.
//!
//! Browsers and crates may be of different versions of Unicode. The standard promises that what one version says of an assigned
//! character stays; `web/test/bodies.test.mjs` compares both over all of them.

/// A normalization form (Unicode Standard Annex 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Canonical composition.
    Nfc,
    /// Canonical decomposition.
    Nfd,
    /// Compatibility composition.
    Nfkc,
    /// Compatibility decomposition.
    Nfkd,
}

#[cfg(not(target_arch = "wasm32"))]
pub use tables::{graphemes, normalized, without_marks};

#[cfg(target_arch = "wasm32")]
pub use browser::{graphemes, normalized, without_marks};

#[cfg(not(target_arch = "wasm32"))]
mod tables {
    use unicode_normalization::UnicodeNormalization;
    use unicode_normalization::char::is_combining_mark;
    use unicode_segmentation::UnicodeSegmentation;

    use super::Form;

    /// `text` in a normalization form.
    #[must_use]
    pub fn normalized(text: &str, form: Form) -> String {
        match form {
            Form::Nfc => text.nfc().collect(),
            Form::Nfd => text.nfd().collect(),
            Form::Nfkc => text.nfkc().collect(),
            Form::Nfkd => text.nfkd().collect(),
        }
    }

    /// `text` without its marks (general category M).
    #[must_use]
    pub fn without_marks(text: &str) -> String {
        text.chars().filter(|&c| !is_combining_mark(c)).collect()
    }

    /// The extended grapheme clusters of `text` (Unicode Standard Annex 29).
    #[must_use]
    pub fn graphemes(text: &str) -> Vec<&str> {
        text.graphemes(true).collect()
    }
}

#[cfg(target_arch = "wasm32")]
mod browser {
    use js_sys::{Array, JsString, Reflect, RegExp};
    use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

    use super::Form;

    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = Intl)]
        type Segmenter;
        #[wasm_bindgen(constructor, js_namespace = Intl)]
        fn new() -> Segmenter;
        #[wasm_bindgen(method)]
        fn segment(this: &Segmenter, text: &str) -> JsValue;
        #[wasm_bindgen(js_namespace = Array, js_name = from)]
        fn list(iterable: &JsValue) -> Array;
    }

    /// `text` in a normalization form.
    #[must_use]
    pub fn normalized(text: &str, form: Form) -> String {
        let form = match form {
            Form::Nfc => "NFC",
            Form::Nfd => "NFD",
            Form::Nfkc => "NFKC",
            Form::Nfkd => "NFKD",
        };
        JsString::from(text).normalize(form).into()
    }

    /// `text` without its marks (general category M).
    #[must_use]
    pub fn without_marks(text: &str) -> String {
        JsString::from(text).replace_by_pattern(&RegExp::new(r"\p{M}", "gu"), "").into()
    }

    /// The extended grapheme clusters of `text` (Unicode Standard Annex 29).
    #[must_use]
    pub fn graphemes(text: &str) -> Vec<&str> {
        let segments = list(&Segmenter::new().segment(text));
        let mut rest = text;
        let cut = |segment: JsValue| {
            let own = Reflect::get(&segment, &"segment".into()).ok().and_then(|own| own.as_string()).unwrap_or_default();
            let (grapheme, after) = rest.split_at_checked(own.len()).unwrap_or((rest, ""));
            rest = after;
            grapheme
        };
        segments.iter().map(cut).collect()
    }
}
