//! Lines of jobs as they come through a stream.

use std::io::{BufRead, Read as _};

use serde_json::{Map, Value};

use crate::batch;

/// A line is not longer: some thousand times a long prompt.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The lines of a stream that hold anything, numbered from 0: the flags of each, or what is wrong with it.
pub(crate) struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, number: 0 }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = (u64, Result<Map<String, Value>, String>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = Vec::new();
            // An input that cannot be read any more has ended.
            if self.input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                return None;
            }
            let whole = line.ends_with(b"\n") || (line.len() as u64) < MAX_LINE_BYTES;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let flags = if whole {
                let text = str::from_utf8(&line).map_err(|_| "it is not UTF-8".to_owned());
                text.and_then(|text| batch::flags(text.strip_prefix('\u{feff}').unwrap_or(text)))
            } else {
                self.input.skip_until(b'\n').unwrap_or(0);
                Err(format!("it is longer than {MAX_LINE_BYTES} bytes"))
            };
            let number = self.number;
            // What takes a job back is none.
            if !flags.as_ref().is_ok_and(|flags| flags.len() == 1 && flags.contains_key("cancel")) {
                self.number += 1;
            }
            return Some((number, flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_by_what_they_hold() {
        let long = format!("{{\"prompt\": \"{}\"}}\n", "a".repeat(2 << 20));
        let text = ["\u{feff}{\"prompt\": \"a\"}\r\n", "\n", "{\"cancel\": 1}\n", "{\n", &long, "{\"id\": \"x\"}"].concat();
        let lines: Vec<_> = Lines::new(text.as_bytes()).map(|(number, line)| (number, line.map(|flags| flags.len()))).collect();
        let numbers: Vec<_> = lines.iter().map(|(number, line)| (*number, line.as_ref().ok().copied())).collect();
        assert_eq!(numbers, [(0, Some(1)), (1, Some(1)), (1, None), (2, None), (3, Some(1))], "{lines:?}");
        assert!(lines[3].1.as_ref().is_err_and(|problem| problem.contains("longer")), "{:?}", lines[3]);
        assert_eq!(Lines::new(&b"\xff\n"[..]).next().map(|(_, line)| line.is_err()), Some(true), "no UTF-8");
    }
}
