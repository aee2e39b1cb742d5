//! GGUF files: every encoding against PyPI `gguf`, its files, and every way a file can be wrong.

mod support;

use std::sync::Arc;

use kinora_kernels::{Encoding, Place, Shape, Weight, WeightFormat};
use kinora_runtime::nn::Weights;
use kinora_runtime::weights::{Checkpoint, DType};
use kinora_runtime::{Error, Result};
use support::golden;

const BLOCKS: [Encoding; 11] = [
    Encoding::Q4_0,
    Encoding::Q4_1,
    Encoding::Q5_0,
    Encoding::Q5_1,
    Encoding::Q8_0,
    Encoding::Q2K,
    Encoding::Q3K,
    Encoding::Q4K,
    Encoding::Q5K,
    Encoding::Q6K,
    Encoding::Iq4Nl,
];

#[test]
fn blocks_hold_the_values_of_the_reference_bit_for_bit() {
    let fixture = Checkpoint::open(golden().join("gguf/blocks.safetensors")).unwrap();
    for encoding in BLOCKS {
        let name = encoding.name();
        let blocks = fixture.get(&format!("{name}.blocks")).unwrap();
        let expected = fixture.f32(&format!("{name}.values"), &[blocks.shape[0], encoding.block()[0]]).unwrap();
        let place = Place { range: 0..blocks.bytes.len() as u64, file: Arc::new(blocks.bytes.to_vec()), encoding };
        let shape = Shape::new(&[blocks.shape[0], encoding.block()[0]]);
        let weight = Weight::stored(name, shape, place.into(), WeightFormat::F32).unwrap();
        for (i, (found, expected)) in weight.values().iter().zip(&expected).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{name}, value {i}: {found}, expected {expected}");
        }
        weight.check().unwrap();
        assert_eq!(weight.row(2).unwrap().unwrap(), expected[2 * encoding.block()[0]..][..encoding.block()[0]], "{name}: a row alone");
    }
}

#[test]
fn a_file_of_the_reference_is_read() {
    let file = Checkpoint::open(golden().join("gguf/small.gguf")).unwrap();
    let expected = Checkpoint::open(golden().join("gguf/small.safetensors")).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), expected.names().collect::<Vec<_>>(), "names");
    for name in expected.names() {
        let (found, expected) = (file.get(name).unwrap(), expected.get(name).unwrap());
        assert_eq!((found.shape, found.to_f32()), (expected.shape, expected.to_f32()), "{name}");
        let w = Weights::new(&file, WeightFormat::F32);
        assert_eq!(w.tensor(name, found.shape).unwrap().values(), expected.to_f32(), "{name} as a weight");
    }
    assert_eq!(file.entry("f16").unwrap().shape, [2, 3, 1, 2, 2], "the extents of a 3-D convolution");
    assert_eq!(file.entry("q8_0").unwrap().dtype, DType::Block(Encoding::Q8_0));
    let texts = ["general.architecture", "test.u8", "test.text"].map(|key| file.metadata(key));
    assert_eq!(texts, [Some("wan"), Some("7"), Some("käfig")], "metadata");
}

/// A little-endian GGUF file, piece by piece.
#[derive(Clone)]
struct File(Vec<u8>);

impl File {
    fn new(version: u32, tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A tensor; extents are the fastest first.
    fn tensor(self, name: &str, extents: &[u64], kind: u32, offset: u64) -> Self {
        let file = self.text(name).u32(extents.len() as u32);
        extents.iter().fold(file, |file, n| file.u64(*n)).u32(kind).u64(offset)
    }

    /// Fills up to the alignment and appends so many bytes.
    fn data(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 1);
        self
    }

    fn open(self) -> Result<Checkpoint> {
        Checkpoint::from_files("test", vec![("test.gguf".into(), self.0)])
    }
}

#[test]
fn malformed_files_are_rejected_for_the_right_reason() {
    let one = |extents: &[u64], kind: u32, offset: u64| File::new(3, 1, 0).tensor("a", extents, kind, offset);
    let two = |second: u64| File::new(2, 2, 0).tensor("a", &[8], 0, 0).tensor("b", &[8], 0, second);
    let key = |kind: u32| File::new(3, 0, 1).text("k").u32(kind);
    assert!(one(&[8, 2], 0, 0).data(64).open().is_ok(), "what follows is this with a mistake");
    assert!(two(32).data(64).open().is_ok() && two(32).data(80).open().is_err(), "bytes behind the last");
    let nested = (0..6).fold(key(9), |file, _| file.u32(9).u64(1));
    let cases: Vec<(File, &str)> = vec![
        (File::new(1, 0, 0), "version 1"),
        (File::new(3 << 24, 0, 0), "a big-endian file"),
        (File::new(3, u64::MAX, 0), "tensors, expected at most"),
        (File::new(3, 0, 1 << 40), "entries of metadata, expected at most"),
        (File::new(3, 1, 0), "does not end within"),
        (File::new(3, 0, 1).u64(u64::MAX), "bytes of a text"),
        (File::new(3, 0, 1).text("k").u32(13), "metadata of type 13"),
        (key(9).u32(0).u64(u64::MAX), "elements of an array"),
        (key(9).u32(12).u64(90_000_000), "does not end within"),
        (nested, "arrays within arrays"),
        (File::new(3, 0, 1).u64(1).raw(&[0xff]).u32(8), "not UTF-8"),
        (File::new(3, 0, 2).text("k").u32(7).raw(&[1]).text("k").u32(7).raw(&[1]), "`k` occurs twice"),
        (File::new(3, 0, 1).text("general.alignment").u32(4).u32(33), "a power of two"),
        (File::new(3, 0, 1).text("general.alignment").u32(4).u32(0), "a power of two"),
        (File::new(3, 0, 1).text("split.count").u32(2).raw(&[3, 0]), "llama-gguf-split --merge"),
        (one(&[1; 6], 0, 0).data(4), "6 extents"),
        (one(&[8], 23, 0).data(32), "IQ4_XS"),
        (one(&[8], 99, 0).data(32), "type 99 (unknown)"),
        (one(&[48], 8, 0).data(51), "Q8_0 cannot have the shape [48]"),
        (one(&[16, 2], 2, 0).data(18), "Q4_0 cannot have the shape [2, 16]"),
        (one(&[1 << 33, 1 << 33], 0, 0).data(0), "cannot have the shape"),
        (one(&[8], 0, u64::MAX - 3).data(32), "cannot have the shape"),
        (one(&[8], 0, 32).data(64), "begins at byte 32 of the data, expected 0"),
        (one(&[8], 0, 0).data(31), "ends at byte 32 of the data"),
        (two(0).data(64), "begins at byte 0 of the data, expected 32"),
        (two(64).data(96), "begins at byte 64 of the data, expected 32"),
        (File::new(3, 2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(64), "`a` occurs twice"),
    ];
    for (i, (file, reason)) in cases.into_iter().enumerate() {
        let error = file.open().expect_err(&format!("case {i}, {reason}, was accepted"));
        assert!(matches!(error, Error::CorruptWeights { .. }) && error.to_string().contains(reason), "case {i}: `{error}`, not `{reason}`");
    }
}

#[test]
fn every_truncation_is_rejected() {
    let whole = std::fs::read(golden().join("gguf/small.gguf")).unwrap();
    // The last tensor, three blocks of 24 bytes, is filled up to the alignment of 64, which may be missing.
    let end = whole.len() - (128 - 72);
    for len in 0..whole.len() {
        let accepted = File(whole[..len].to_vec()).open().is_ok();
        assert!(!accepted || len >= end, "accepted the first {len} of {} bytes", whole.len());
    }
}
