//! The safetensors reader and writer: every way a file can be wrong, and round trips.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use kinora_runtime::nn::Weights;
use kinora_runtime::weights::{Checkpoint, DType, Header, NewTensor, Values, to_bytes, write_file};
use kinora_runtime::{Error, WeightFormat};
use proptest::prelude::*;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Checkpoint, Error> {
    Checkpoint::from_files("test", vec![("test.safetensors".into(), bytes)])
}

/// A scratch folder that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kinora-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}"#;

#[test]
fn well_formed_files_are_read() {
    let checkpoint = open(file(GOOD, &[0, 0, 128, 63, 0, 0, 0, 192, 7])).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"], "names in order");
    let a = checkpoint.get("a").unwrap();
    assert_eq!((a.dtype, a.shape, a.to_f32()), (DType::F32, &[2][..], vec![1.0, -2.0]), "values in order");
    assert_eq!(checkpoint.get("b").unwrap().to_i64().unwrap(), [7], "a scalar has one element");
    // Unaligned data behind an odd header, spaces behind the JSON, metadata, an empty tensor, no tensor at all.
    let padded = r#"{"__metadata__":{"k":"v"},"e":{"dtype":"F64","shape":[0,5],"data_offsets":[0,0]}}   "#;
    let header = Header::parse(&file(padded, &[]), padded.len() as u64 + 8, "x").unwrap();
    assert_eq!(header.metadata.get("k").map(String::as_str), Some("v"), "metadata is kept");
    assert!(open(file("{}", &[])).unwrap().names().next().is_none(), "an empty table is a valid file");
}

#[test]
fn malformed_files_are_rejected_for_the_right_reason() {
    let one =
        |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
    let two = |first: &str, second: &str| {
        format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#)
    };
    let raw = |bytes: &[u8]| bytes.to_vec();
    let mut not_utf8 = file(GOOD, &[0; 9]);
    not_utf8[10] = 0xff;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (raw(b""), "too few"),
        (raw(b"1234567"), "too few"),
        (raw(&8u64.to_le_bytes()), "claims 8 bytes"),
        (raw(&u64::MAX.to_le_bytes()), "more than"),
        (raw(&100_000_001u64.to_le_bytes()), "more than"),
        (file("", &[]), "begin with"),
        (file(" {}", &[]), "begin with"),
        (file("[]", &[]), "begin with"),
        (file("{", &[]), "JSON"),
        (file("{}x", &[]), "JSON"),
        (file(r#"{"a":1}"#, &[]), "tensor `a`"),
        (file(r#"{"a":{}}"#, &[]), "tensor `a`: missing field"),
        (not_utf8, "UTF-8"),
        (file(&one("F32", "[2]", "[0,8]"), &[0; 7]), "the file holds 7"),
        (file(&one("F32", "[2]", "[0,8]"), &[0; 9]), "the file has"),
        (file(&one("F32", "[2]", "[0,4]"), &[0; 4]), "takes 8 bytes"),
        (file(&one("F32", "[2]", "[8,0]"), &[0; 8]), "takes 8 bytes"),
        (file(&one("F32", "[2]", "[4,12]"), &[0; 12]), "gap"),
        (file(&one("F32", "[2]", "[0,8,9]"), &[0; 8]), "tensor `a`"),
        (file(&one("F32", "[-2]", "[0,8]"), &[0; 8]), "tensor `a`"),
        (file(&one("F32", "[2.0]", "[0,8]"), &[0; 8]), "tensor `a`"),
        (file(&one("F32", "[4294967296,4294967296]", "[0,0]"), &[]), "overflows"),
        (file(&one("F64", "[2305843009213693952]", "[0,0]"), &[]), "overflows"),
        (file(&one("U8", "[1]", "[18446744073709551615,0]"), &[]), "takes 1 bytes"),
        (file(&one("F4", "[2]", "[0,1]"), &[0; 1]), "unsupported dtype"),
        (file(&one("f32", "[2]", "[0,8]"), &[0; 8]), "unsupported dtype"),
        (file(&two("[0,4]", "[2,6]"), &[0; 6]), "overlaps"),
        (file(&two("[0,4]", "[0,4]"), &[0; 4]), "overlaps"),
        (file(&two("[0,4]", "[5,9]"), &[0; 9]), "gap"),
        (file(&two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""), &[0; 8]), "`a` occurs twice"),
        (file(r#"{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}"#, &[0]), "`dtype` occurs twice"),
        (file(r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1}}"#, &[0]), "unknown field"),
        (file(r#"{"__metadata__":{"k":1}}"#, &[]), "__metadata__"),
        (file(r#"{"__metadata__":{"k":"1","k":"2"}}"#, &[]), "`k` occurs twice"),
        (file(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]), "occurs twice"),
        (file(&"{\"a\":".repeat(5000), &[]), "JSON"),
    ];
    for (bytes, reason) in cases {
        let shown = String::from_utf8_lossy(bytes.get(8..).unwrap_or_default()).chars().take(90).collect::<String>();
        let error = open(bytes).expect_err(&format!("accepted {shown}"));
        assert_eq!(error.code(), "corrupt-weights", "{shown}");
        assert!(error.to_string().contains(reason), "{shown}: `{error}` does not say `{reason}`");
    }
}

#[test]
fn every_truncation_is_rejected() {
    let whole = file(GOOD, &[0; 9]);
    for len in 0..whole.len() {
        assert!(open(whole[..len].to_vec()).is_err(), "accepted the first {len} of {} bytes", whole.len());
    }
}

#[test]
fn all_number_types_are_converted() {
    let elements: [(&str, &[u8], f32); 11] = [
        ("BOOL", &[1], 1.0),
        ("I8", &[0xfe], -2.0),
        ("U16", &[0, 2], 512.0),
        ("I16", &[0xff, 0xff], -1.0),
        ("F16", &[0x00, 0xc1], -2.5),
        ("BF16", &[0x20, 0xc0], -2.5),
        ("U32", &[0, 0, 1, 0], 65536.0),
        ("I32", &[0xff, 0xff, 0xff, 0xff], -1.0),
        ("U64", &[3, 0, 0, 0, 0, 0, 0, 0], 3.0),
        ("I64", &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -3.0),
        ("F64", &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f], 1.5),
    ];
    for (dtype, bytes, value) in elements {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{}]}}}}"#, bytes.len());
        let checkpoint = open(file(&header, bytes)).unwrap();
        let tensor = checkpoint.get("a").unwrap();
        assert_eq!(tensor.to_f32(), [value], "{dtype}");
        assert_eq!(tensor.to_i64().is_ok(), !matches!(dtype, "F16" | "BF16" | "F64" | "U64"), "{dtype} as integer");
    }
}

#[test]
fn wrong_tensors_are_named() {
    let nan = f32::NAN.to_le_bytes();
    let bytes = file(r#"{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#, &nan);
    let checkpoint = open(bytes).unwrap();
    assert_eq!(checkpoint.f32("b", &[1]).unwrap_err().to_string(), "tensor `b` is missing from test, which holds 1 tensors");
    assert_eq!(checkpoint.f32("a", &[1]).unwrap_err().to_string(), "tensor `a` has shape [1, 1], expected [1]");
    assert_eq!(checkpoint.f32("a", &[1, 1]).unwrap_err().code(), "non-finite", "NaN in a weight is an error");
}

#[test]
fn pickles_are_told_apart_from_damage() {
    for start in [b"PK\x03\x04\0\0\x08\x08\0\0".as_slice(), b"\x80\x02}q\0(X\x01\0\0\0".as_slice()] {
        let error = open(start.to_vec()).unwrap_err();
        assert_eq!(
            (error.code(), error.hint().is_some_and(|hint| hint.contains("tools/convert_checkpoint.py"))),
            ("pickle", true),
            "{error}"
        );
    }
    let folder = std::env::temp_dir().join(format!("kinora-pickle-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
    let error = Checkpoint::open(&folder).unwrap_err();
    fs::remove_dir_all(&folder).unwrap();
    assert!(error.code() == "pickle" && error.to_string().contains("pytorch_model.bin is a pickle"), "{error}");
}

#[test]
fn a_sharded_model_is_one_table() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ltx_transformer/affine_sharded");
    let checkpoint = Checkpoint::open(folder).unwrap();
    assert_eq!(checkpoint.get("proj_in.weight").unwrap().shape, [48, 8], "first shard");
    assert_eq!(checkpoint.get("transformer_blocks.0.ff.net.2.weight").unwrap().dtype, DType::BF16, "a later shard");
}

#[test]
fn folders_that_cannot_be_loaded_say_why() {
    let scratch = Scratch::new("folders");
    let dir = &scratch.0;
    let message = |path: &PathBuf| Checkpoint::open(path).unwrap_err().to_string();
    assert_eq!(Checkpoint::open(dir.join("absent")).unwrap_err().code(), "not-found", "absent folder");
    assert!(message(dir).contains("weight file"), "empty folder");

    let good = file(GOOD, &[0; 9]);
    fs::write(dir.join("x.safetensors"), &good).unwrap();
    assert!(Checkpoint::open(dir).is_ok(), "a single file of any name will do");
    fs::write(dir.join("y.safetensors"), &good).unwrap();
    assert!(message(dir).contains("2 weight files"), "two files and no index");

    let index = dir.join("m.safetensors.index.json");
    let cases = [
        (r#"{"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}"#, "also in another file"),
        (r#"{"weight_map":{"c":"x.safetensors"}}"#, "not in x.safetensors"),
        (r#"{"weight_map":{"a":"../x.safetensors"}}"#, "not the name of a safetensors file"),
        (r#"{"weight_map":{"a":"z.safetensors"}}"#, "z.safetensors"),
        (r#"{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}"#, "occurs twice"),
        ("{}", "weight_map"),
    ];
    for (text, reason) in cases {
        fs::write(&index, text).unwrap();
        assert!(message(dir).contains(reason), "{text}: {}", message(dir));
    }
    fs::write(&index, r#"{"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}"#).unwrap();
    assert!(Checkpoint::open(dir).is_ok(), "a good index decides which files count");
}

#[test]
fn writing_is_atomic_and_checked() {
    let scratch = Scratch::new("write");
    let path = scratch.0.join("out.safetensors");
    let good = NewTensor { name: "x", shape: &[2], values: Values::F32(&[1.0, 2.0]) };
    write_file(&path, &[good]).unwrap();
    let before = fs::read(&path).unwrap();
    let bad = NewTensor { name: "x", shape: &[3], values: Values::F32(&[1.0, 2.0]) };
    assert_eq!(write_file(&path, &[bad]).unwrap_err().code(), "wrong-shape", "shape and values disagree");
    assert_eq!(write_file(&path, &[good, good]).unwrap_err().code(), "invalid-request", "repeated name");
    assert_eq!(fs::read(&path).unwrap(), before, "a failed write leaves the old file");
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "and no other file");
    let nowhere = scratch.0.join("absent").join("out.safetensors");
    assert_eq!(write_file(nowhere, &[good]).unwrap_err().code(), "io", "the folder must exist");
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        floats in prop::collection::vec(any::<f32>(), 0..40),
        ints in prop::collection::vec(any::<i64>(), 1..20),
        name in "\\PC{1,12}",
    ) {
        prop_assume!(name != "ints" && name != "__metadata__");
        let (n, m) = (floats.len(), ints.len());
        let bytes = to_bytes(&[
            NewTensor { name: &name, shape: &[n, 1], values: Values::F32(&floats) },
            NewTensor { name: "ints", shape: &[1, m], values: Values::I64(&ints) },
        ]).unwrap();
        let checkpoint = open(bytes).unwrap();
        let found = checkpoint.get(&name).unwrap();
        prop_assert_eq!(found.shape, &[n, 1]);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&found.to_f32()), bits(&floats));
        prop_assert_eq!(checkpoint.get("ints").unwrap().to_i64().unwrap(), ints);
    }

    #[test]
    fn damaged_bytes_never_panic(position in 0usize..GOOD.len() + 17, value in any::<u8>()) {
        let mut bytes = file(GOOD, &[0; 9]);
        bytes[position] = value;
        if let Ok(checkpoint) = open(bytes) {
            for name in checkpoint.names() {
                let tensor = checkpoint.get(name).unwrap();
                prop_assert_eq!(Some(tensor.bytes.len() as u64), tensor.dtype.bytes(tensor.len() as u64));
            }
        }
    }
}

/// A matrix of two rows of 33 values in I8, with `scale` of this type and shape for it.
fn quantised(scale: &str, shape: &str, scale_bytes: usize) -> Checkpoint {
    let end = 66 + scale_bytes;
    let header = format!(
        r#"{{"m":{{"dtype":"I8","shape":[2,33],"data_offsets":[0,66]}},"m.scale":{{"dtype":"{scale}","shape":{shape},"data_offsets":[66,{end}]}}}}"#
    );
    let values = (1..=33i8).chain((1..=33).map(|v: i8| -v)).map(i8::cast_unsigned);
    let scales = [0.5, 2.0, 1.0, 4.0].map(|s| half::f16::from_f32(s).to_le_bytes()).concat();
    open(file(&header, &values.chain(scales).chain([0; 8]).take(end).collect::<Vec<_>>())).unwrap()
}

#[test]
fn quantised_matrices_are_read_with_their_scales() {
    let checkpoint = quantised("F16", "[2,2]", 8);
    let w = Weights::new(&checkpoint, WeightFormat::F32);
    let values = w.tensor("m", &[2, 33]).unwrap().values();
    assert_eq!((values[0], values[32], values[33], values[65]), (0.5, 66.0, -1.0, -132.0), "value times scale of its block");
    assert_eq!(w.embedding("m", 2, 33).unwrap().rows(&[1]).unwrap(), values[33..], "a row of a table alone");
    assert_eq!(w.values("m", &[2, 33]).unwrap(), values, "on the host");
    w.finish().expect("the scales belong to the matrix");

    let fail = |checkpoint: &Checkpoint| Weights::new(checkpoint, WeightFormat::F32).tensor("m", &[2, 33]).unwrap_err().to_string();
    assert_eq!(fail(&quantised("F16", "[2,1]", 4)), "tensor `m.scale` has shape [2, 1], expected [2, 2]");
    assert!(fail(&quantised("F32", "[2,2]", 16)).contains("must be F16"), "scales of another type");
    let bare = open(file(r#"{"m":{"dtype":"I8","shape":[2,33],"data_offsets":[0,66]}}"#, &[0; 66])).unwrap();
    assert_eq!(fail(&bare), "tensor `m.scale` is missing from test, which holds 1 tensors");
    let vector = open(file(r#"{"m":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#, &[0; 2])).unwrap();
    let error = Weights::new(&vector, WeightFormat::F32).tensor("m", &[2]).unwrap_err();
    assert_eq!(error.code(), "wrong-dtype", "a vector is never quantised: {error}");
}

#[test]
fn formats_that_cannot_be_read_are_named_whatever_their_bytes_pretend() {
    for (dtype, text, reason) in
        [("U8", r#"{"format":"nvfp4"}"#, "`nvfp4`"), ("I8", r#"{"format":"int8_tensorwise","convrot":true}"#, "convrot")]
    {
        let end = 4 + text.len();
        let header = format!(
            r#"{{"m.weight":{{"dtype":"{dtype}","shape":[2,2],"data_offsets":[0,4]}},"m.comfy_quant":{{"dtype":"U8","shape":[{}],"data_offsets":[4,{end}]}}}}"#,
            text.len()
        );
        let checkpoint = open(file(&header, &[&[0; 4], text.as_bytes()].concat())).unwrap();
        let error = Weights::new(&checkpoint, WeightFormat::F32).tensor("m.weight", &[2, 2]).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("`m`"), "{error}");
    }
}
