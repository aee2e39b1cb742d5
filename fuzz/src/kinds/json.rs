//! Configurations, indices, tokenizers and options, right or wrong in one way. Kinds that change a field do so in the text or the
//! parsed document of a published one.

use serde_json::{Map, Value, json};

use crate::random::Random;
use crate::targets::{COMPONENTS, fixture};

/// What makes any JSON text wrong where one object is expected.
pub(super) const BAD_TEXT: [&str; 7] =
    ["empty", "cut", "not UTF-8", "an array", "nested 100,000 deep", "text behind the end", "key twice"];

/// Configurations that must be refused.
pub(super) const BAD_CONFIG: [&str; 10] = [
    "no class",
    "unknown class",
    "class a number",
    "extent 0",
    "extent -1",
    "extent 2^63",
    "extent a fraction",
    "extent a text",
    "extent a list",
    "extent infinite",
];

/// Indices that must be refused.
pub(super) const BAD_INDEX: [&str; 10] = [
    "no class",
    "unknown class",
    "count 0",
    "count -1",
    "count a text",
    "rate 0",
    "rate 65535",
    "unknown key of kinora",
    "file elsewhere",
    "folder elsewhere",
];

/// Tokenizers that must be refused.
pub(super) const BAD_TOKENIZER: [&str; 10] = [
    "token twice",
    "no model",
    "unknown model",
    "unknown step",
    "vocabulary a number",
    "id negative",
    "no unknown token",
    "template of nothing known",
    "empty added token",
    "text that doubles forty times",
];

/// Options that must be refused.
pub(super) const BAD_OPTIONS: [&str; 4] = [
    "a number",
    "unknown key",
    "count -1",
    "count a text",
];

/// What happens to any JSON text; nothing if `spoil` is another kind.
fn spoilt(spoil: &str, mut text: String, random: &mut Random) -> Vec<u8> {
    match spoil {
        "empty" => text.clear(),
        "cut" => {
            text.truncate((1..text.trim_end().len()).filter(|at| text.is_char_boundary(*at)).nth(random.below(text.len() / 2)).unwrap_or(1))
        }
        "an array" => text = format!("[{text}]"),
        "a number" => text = random.below(1000).to_string(),
        "nested 100,000 deep" => text = format!(r#"{{"a":{}1{},{}"#, "[".repeat(100_000), "]".repeat(100_000), &text[1..]),
        "text behind the end" => text.push_str(["x", "{}", "]", "\"\""][random.below(4)]),
        "key twice" => {
            let document: Map<String, Value> = serde_json::from_str(&text).expect("it was right");
            let keys: Vec<&String> = document.keys().collect();
            let key = random.pick(&keys).as_str();
            text = format!("{{{:?}:{},{}", key, document[key], &text[text.find('{').map_or(0, |at| at + 1)..]);
        }
        "not UTF-8" => {
            let mut bytes = text.into_bytes();
            let at = random.below(bytes.len());
            bytes[at] = 0xff;
            return bytes;
        }
        _ => {}
    }
    text.into_bytes()
}

/// Fields of which no other value fits the weights.
fn extents(folder: &str) -> &'static [&'static str] {
    match folder {
        "wan_pipeline/transformer" => &["num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "text_dim"],
        "wan_vae/v21" => &["base_dim", "z_dim", "num_res_blocks"],
        "umt5/tiny" | "t5/gated_gelu" => &["d_model", "d_ff", "num_layers", "num_heads", "vocab_size"],
        "ltx_transformer/head32" => &["num_attention_heads", "num_layers", "caption_channels", "in_channels"],
        "ltx_vae/v095" => &["latent_channels", "patch_size"],
        "bert/tiny" => &["hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"],
        "kl_vae/small" => &["latent_channels", "layers_per_block"],
        _ => &["num_layers", "num_attention_heads", "caption_channels"],
    }
}

fn published(name: &str) -> String {
    String::from_utf8(fixture(name)).expect("text")
}

/// A configuration behind the number of its component.
pub(super) fn config(spoil: &str, random: &mut Random) -> Vec<u8> {
    let which = random.below(COMPONENTS.len());
    let folder = COMPONENTS[which];
    let text = published(&format!("{folder}/config.json"));
    let mut document: Map<String, Value> = serde_json::from_str(&text).expect("a fixture");
    let class = if document.contains_key("_class_name") { "_class_name" } else { "architectures" };
    let field = *random.pick(extents(folder));
    let value = match spoil {
        "extent 0" => json!(0),
        "extent -1" => json!(-1),
        "extent 2^63" => json!(1u64 << 63),
        "extent a fraction" => json!(1.5),
        "extent a text" => json!("8"),
        "extent a list" => json!({"a": 1}),
        "extent infinite" => json!("@"),
        "no class" => Value::Null,
        "unknown class" => json!(if class == "architectures" { json!(["Nothing"]) } else { json!("Nothing") }),
        "class a number" => json!(7),
        _ => return [vec![which as u8], spoilt(spoil, text, random)].concat(),
    };
    let name = if spoil.contains("class") { class } else { field };
    assert!(document.contains_key(name), "{folder} has no {name}");
    document.insert(name.to_owned(), value);
    if spoil == "no class" {
        document.remove(name);
    }
    let text = Value::from(document).to_string().replace("\"@\"", "1e999");
    [vec![which as u8], text.into_bytes()].concat()
}

/// The index of a small model.
pub(super) fn index(spoil: &str, random: &mut Random) -> Vec<u8> {
    let mut document = json!({
        "_class_name": random.pick(&["LTXPipeline", "WanPipeline"]),
        "transformer": ["diffusers", "A"],
        "vae": ["diffusers", "B"],
        "kinora": {"name": "small", "default_steps": 2, "default_width": 32, "default_height": 32, "default_frames": 5, "fps": 12}
    });
    let count = *random.pick(&["default_steps", "default_width", "default_height", "default_frames"]);
    let kinora = &mut document["kinora"];
    match spoil {
        "count 0" => kinora[count] = json!(0),
        "count -1" => kinora[count] = json!(-1),
        "count a text" => kinora[count] = json!("2"),
        "rate 0" => kinora["fps"] = json!(0),
        "rate 65535" => kinora["fps"] = json!(65_535),
        "file elsewhere" => kinora["vocabulary"] = json!(random.pick(&["../x.json", "/etc/passwd", "a/../../b", "C:x", "..\\x"])),
        "folder elsewhere" => kinora["cascade"] = json!(["../refiner"]),
        "unknown key of kinora" => kinora["default_step"] = json!(2),
        "no class" => drop(document.as_object_mut().expect("an object").remove("_class_name")),
        "unknown class" => document["_class_name"] = json!("NothingPipeline"),
        _ => {}
    }
    spoilt(spoil, document.to_string(), random)
}

/// A tokenizer of one of the kinds.
pub(super) fn tokenizer(spoil: &str, random: &mut Random) -> Vec<u8> {
    let name = *random.pick(&["bpe", "wordpiece", "wordpiece", "wordpiece"]);
    let name = if spoil == "no unknown token" { "wordpiece" } else { name };
    let text = published(&format!("tokenizer/{name}.json"));
    if spoil == "token twice" {
        return text.replacen("\"vocab\":{", "\"vocab\":{\"zzzz\":1,\"zzzz\":2,", 1).into_bytes();
    }
    let mut document: Value = serde_json::from_str(&text).expect("a fixture");
    let model = &mut document["model"];
    match spoil {
        "no model" => drop(document.as_object_mut().expect("an object").remove("model")),
        "unknown model" => model["type"] = json!("WordLevel"),
        "vocabulary a number" => model["vocab"] = json!(7),
        "id negative" => model["vocab"]["zzzz"] = json!(-1),
        "no unknown token" => model["unk_token"] = json!("not in the vocabulary"),
        "unknown step" => document["pre_tokenizer"] = json!({"type": "Nothing"}),
        "template of nothing known" => {
            document["post_processor"] = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}], "pair": [], "special_tokens": {}});
        }
        "text that doubles forty times" => {
            let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
            document["normalizer"] = json!({"type": "Sequence", "normalizers": vec![double; 40]});
        }
        "empty added token" => document["added_tokens"][0]["content"] = json!(""),
        _ => return spoilt(spoil, text, random),
    }
    document.to_string().into_bytes()
}

/// The options of a request.
pub(super) fn options(spoil: &str, random: &mut Random) -> Vec<u8> {
    let mut document = json!({
        "prompt": "a red bear", "width": 32, "height": 48, "frames": 5, "steps": 2, "seed": random.below(1000),
        "guidance": 2.5, "guidanceInterval": [0.1, 0.9], "aspect": "16:9"
    });
    match spoil {
        "unknown key" => document["widht"] = json!(32),
        "count -1" => document[*random.pick(&["width", "height", "frames", "steps"])] = json!(-1),
        "count a text" => document[*random.pick(&["width", "height", "frames", "steps"])] = json!("5"),
        _ => {}
    }
    spoilt(spoil, document.to_string(), random)
}
