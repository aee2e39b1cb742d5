//! `cargo +nightly fuzz run weights`: the target of this name over whatever libFuzzer makes up.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kinora_fuzz::targets::weights(bytes);
});
