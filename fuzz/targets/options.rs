//! `cargo +nightly fuzz run options`: the target of this name over whatever libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kinora_fuzz::targets::options(bytes);
});
