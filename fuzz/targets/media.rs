//! `cargo +nightly fuzz run media`: the target of this name over whatever libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kinora_fuzz::targets::media(bytes);
});
