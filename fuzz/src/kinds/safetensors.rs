//! Safetensors files, right or wrong in one way.

use super::cut;
use crate::random::Random;

/// Which must be refused.
pub(super) const BAD: [&str; 33] = [
    "empty",
    "seven bytes",
    "cut in the header",
    "cut in the data",
    "a byte behind the end",
    "another file behind the end",
    "header longer than the file",
    "header of 2^64 - 1 bytes",
    "header of 2^63 bytes",
    "header of no bytes",
    "header not UTF-8",
    "header an array",
    "header after spaces",
    "header cut",
    "nested 100,000 deep",
    "tensor twice",
    "key of a tensor twice",
    "another key of a tensor",
    "no dtype",
    "no shape",
    "no offsets",
    "unknown dtype",
    "dtype a number",
    "shape negative",
    "shape a fraction",
    "shape a text",
    "shape overflows",
    "shape beside the data",
    "offsets swapped",
    "three offsets",
    "offsets overlap",
    "gap between tensors",
    "metadata a number",
];

/// Which must be read.
pub(super) const GOOD: [&str; 5] =
    ["as written", "no tensor", "scalars and empty tensors", "tensors in another order", "spaces behind the header"];

pub(super) fn file(spoil: &str, random: &mut Random) -> Vec<u8> {
    let [a, b, c] = [0; 3].map(|_: usize| 1 + random.below(9));
    // F32 [a, 2], F16 [b], U8 [c].
    let ends = [8 * a, 8 * a + 2 * b, 8 * a + 2 * b + c];
    let is = |name: &str| spoil == name;
    let pick = |name: &str, bad: &str, good: String| if is(name) { bad.to_owned() } else { good };
    let dtype = match spoil {
        "unknown dtype" => r#""F31""#,
        "dtype a number" => "7",
        _ => r#""F32""#,
    };
    let shape = match spoil {
        "shape negative" => "[-1,2]".to_owned(),
        "shape a fraction" => format!("[{a}.5,2]"),
        "shape a text" => format!(r#"["{a}",2]"#),
        "shape overflows" => "[4294967296,4294967296,4294967296]".to_owned(),
        "shape beside the data" => format!("[{},2]", a + 1),
        _ => format!("[{a},2]"),
    };
    let offsets = match spoil {
        "offsets swapped" => format!("[{},0]", ends[0]),
        "three offsets" => format!("[0,{},{}]", ends[0], ends[0]),
        _ => format!("[0,{}]", ends[0]),
    };
    let mut fields = Vec::new();
    for (left_out, name, value) in [("no dtype", "dtype", dtype), ("no shape", "shape", &shape), ("no offsets", "data_offsets", &offsets)] {
        if !is(left_out) {
            fields.push(format!(r#""{name}":{value}"#));
        }
    }
    if is("key of a tensor twice") {
        fields.push(fields[random.below(3)].clone());
    }
    if is("another key of a tensor") {
        fields.push(r#""order":"F""#.into());
    }
    let tensor = |dtype: &str, shape: &str, start: usize, end: usize| {
        format!(r#"{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{start},{end}]}}"#)
    };
    let overlap = usize::from(is("offsets overlap"));
    let mut entries = vec![
        format!(r#""a":{{{}}}"#, fields.join(",")),
        format!(r#""b":{}"#, tensor("F16", &b.to_string(), ends[0] - overlap, ends[1] - overlap)),
        format!(r#""{}":{}"#, pick("tensor twice", "b", "c".into()), tensor("U8", &c.to_string(), ends[1], ends[2])),
        format!(r#""__metadata__":{{"format":{}}}"#, pick("metadata a number", "1", r#""pt""#.into())),
    ];
    let mut data = random.bytes(ends[2]);
    match spoil {
        "gap between tensors" => drop(entries.remove(1)),
        "tensors in another order" => entries.reverse(),
        "scalars and empty tensors" => {
            entries.push(format!(r#""scalar":{}"#, tensor("U8", "", ends[2], ends[2] + 1)));
            entries.push(format!(r#""empty":{}"#, tensor("F32", "3,0", ends[2], ends[2])));
            data.push(1);
        }
        "no tensor" => {
            entries.clear();
            data.clear();
        }
        _ => {}
    }
    let mut header = format!("{{{}}}", entries.join(",")).into_bytes();
    match spoil {
        "header an array" => header = b"[]".to_vec(),
        "header after spaces" => header.splice(0..0, *b"  ").for_each(drop),
        "header cut" => header.truncate(header.len() - 1),
        "header not UTF-8" => *header.iter_mut().find(|byte| **byte == b'a').expect("there is one") = 0xff,
        "header of no bytes" => header.clear(),
        "nested 100,000 deep" => header = [&b"{\"a\":"[..], &vec![b'['; 100_000], &vec![b']'; 100_000], b"}"].concat(),
        "spaces behind the header" => header.resize(header.len() + random.below(9), b' '),
        _ => {}
    }
    let length = match spoil {
        "header longer than the file" => (header.len() + data.len() + 1) as u64,
        "header of 2^64 - 1 bytes" => u64::MAX,
        "header of 2^63 bytes" => 1 << 63,
        _ => header.len() as u64,
    };
    let mut bytes = [&length.to_le_bytes()[..], &header, &data].concat();
    match spoil {
        "empty" => bytes.clear(),
        "seven bytes" => bytes.truncate(7),
        "cut in the header" => bytes.truncate(8 + random.below(header.len())),
        "cut in the data" => {
            let mut data = bytes.split_off(8 + header.len());
            cut(&mut data, random);
            bytes.extend(data);
        }
        "a byte behind the end" => bytes.push(0),
        "another file behind the end" => bytes.extend(b"PK\x05\x06\0\0\0\0"),
        _ => {}
    }
    bytes
}
