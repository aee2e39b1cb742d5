//! GGUF files, right or wrong in one way.

use super::cut;
use crate::random::Random;

/// Which must be refused.
pub(super) const BAD: [&str; 27] = [
    "GGUF: magic alone",
    "GGUF: version 1",
    "GGUF: version 4",
    "GGUF: big-endian",
    "GGUF: 2^64 - 1 tensors",
    "GGUF: a tensor too many",
    "GGUF: 2^64 - 1 entries",
    "GGUF: an entry too many",
    "GGUF: key of 2^64 - 1 bytes",
    "GGUF: key not UTF-8",
    "GGUF: key twice",
    "GGUF: unknown kind of value",
    "GGUF: text of 2^63 bytes",
    "GGUF: array of 2^64 - 1 elements",
    "GGUF: array of an unknown kind",
    "GGUF: arrays 100 deep",
    "GGUF: alignment 0",
    "GGUF: alignment 3",
    "GGUF: alignment a text",
    "GGUF: tensor twice",
    "GGUF: 9 extents",
    "GGUF: extents overflow",
    "GGUF: row no whole blocks",
    "GGUF: unknown type",
    "GGUF: offset beyond the file",
    "GGUF: offset not where the tensor before ends",
    "GGUF: cut",
];

/// Which must be read.
pub(super) const GOOD: [&str; 2] = ["GGUF: as written", "GGUF: no tensor"];

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

/// Kind 8 is a text, 9 an array, 4 a `u32`.
fn entry(out: &mut Vec<u8>, key: &str, kind: u32, value: &[u8]) {
    text(out, key.as_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(value);
}

fn texts(elements: &[&str]) -> Vec<u8> {
    let mut out = [&8u32.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes()].concat();
    elements.iter().for_each(|element| text(&mut out, element.as_bytes()));
    out
}

pub(super) fn file(spoil: &str, random: &mut Random) -> Vec<u8> {
    let spoil = spoil.strip_prefix("GGUF: ").unwrap_or(spoil);
    let version = match spoil {
        "version 1" => 1u32,
        "version 4" => 4,
        "big-endian" => 3u32.swap_bytes(),
        _ => 2 + random.below(2) as u32,
    };
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let mut add = |key: &str, kind, value: &[u8]| {
        let mut out = Vec::new();
        entry(&mut out, key, kind, value);
        entries.push(out);
    };
    let mut name = Vec::new();
    text(&mut name, b"wan");
    add("general.architecture", 8, &name);
    add("tokenizer.ggml.tokens", 9, &texts(&["<pad>", "a", "b"]));
    add("test.number", 4, &7u32.to_le_bytes());
    match spoil {
        "key twice" => add("test.number", 4, &8u32.to_le_bytes()),
        "unknown kind of value" => add("test.odd", 13 + random.below(99) as u32, &[0; 8]),
        "text of 2^63 bytes" => add("test.text", 8, &(1u64 << 63).to_le_bytes()),
        "array of 2^64 - 1 elements" => add("test.array", 9, &[&4u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat()),
        "array of an unknown kind" => add("test.array", 9, &[&99u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[0; 8]].concat()),
        "arrays 100 deep" => add("test.array", 9, &[&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat().repeat(100)),
        "alignment 0" => add("general.alignment", 4, &0u32.to_le_bytes()),
        "alignment 3" => add("general.alignment", 4, &3u32.to_le_bytes()),
        "alignment a text" => add("general.alignment", 8, &name),
        _ => {}
    }
    if spoil == "key not UTF-8" {
        let mut out = Vec::new();
        text(&mut out, &[0xff, 0xfe]);
        entries.push([&out[..], &4u32.to_le_bytes(), &[0; 4]].concat());
    }
    if spoil == "key of 2^64 - 1 bytes" {
        entries.push(u64::MAX.to_le_bytes().to_vec());
    }
    // F32 [n], Q8_0 [rows, 32].
    let (n, rows) = (1 + random.below(20) as u64, 1 + random.below(3) as u64);
    let first = (4 * n).next_multiple_of(32);
    let mut tensors: Vec<Vec<u8>> = Vec::new();
    let mut tensor = |name: &str, dims: &[u64], kind: u32, offset: u64| {
        let mut out = Vec::new();
        text(&mut out, name.as_bytes());
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend(offset.to_le_bytes());
        tensors.push(out);
    };
    match spoil {
        "9 extents" => tensor("a", &[n, 1, 1, 1, 1, 1, 1, 1, 1], 0, 0),
        "extents overflow" => tensor("a", &[1 << 33, 1 << 33], 0, 0),
        "unknown type" => tensor("a", &[n], 200, 0),
        _ => tensor("a", &[n], 0, 0),
    }
    let again = if spoil == "tensor twice" { "a" } else { "b" };
    match spoil {
        "row no whole blocks" => tensor(again, &[33, rows], 8, first),
        "offset beyond the file" => tensor(again, &[32, rows], 8, (1 << 40) + first),
        "offset not where the tensor before ends" => tensor(again, &[32, rows], 8, first + 32),
        _ => tensor(again, &[32, rows], 8, first),
    }
    let mut data = random.bytes((first + 34 * rows) as usize);
    if spoil == "no tensor" {
        tensors.clear();
        data.clear();
    }
    let (tensor_count, entry_count) = match spoil {
        "2^64 - 1 tensors" => (u64::MAX, entries.len() as u64),
        "a tensor too many" => (tensors.len() as u64 + 1, entries.len() as u64),
        "2^64 - 1 entries" => (tensors.len() as u64, u64::MAX),
        "an entry too many" => (tensors.len() as u64, entries.len() as u64 + 1),
        _ => (tensors.len() as u64, entries.len() as u64),
    };
    let counts = [tensor_count.to_le_bytes(), entry_count.to_le_bytes()].concat();
    let mut bytes = [b"GGUF", &version.to_le_bytes()[..], &counts, &entries.concat(), &tensors.concat()].concat();
    // The last tensor need not be filled up, and a file without any has no data at all.
    if !data.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
    }
    match spoil {
        "magic alone" => bytes.truncate(4),
        "cut" => {
            let mut rest = bytes.split_off(4);
            cut(&mut rest, random);
            bytes.extend(rest);
        }
        _ => {}
    }
    bytes
}
