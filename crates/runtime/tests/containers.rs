//! One tiny Wan from the files that people have: the clip is that of the reference with the weights that are in the file.

mod support;

use std::path::PathBuf;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::models::layout::recognise;
use kinora_runtime::weights::{Checkpoint, Lora, ModelFiles, NewTensor, Values, to_bytes};
use kinora_runtime::{CancelToken, Error, GenerateRequest, Generated, ModelParts, Result, VideoPipeline};
use support::{golden, nmse};

fn path(name: &str) -> PathBuf {
    golden().join("containers").join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn parts(files: &[&str]) -> ModelParts {
    let tokenizer = std::fs::read(golden().join("tokenizer/unigram.json")).expect("a fixture");
    ModelParts { weights: files.iter().map(|name| open(name)).collect(), tokenizer: Some(tokenizer), ..ModelParts::default() }
}

fn load(parts: ModelParts) -> Result<VideoPipeline> {
    VideoPipeline::load_with(Device::cpu(), None, parts, WeightFormat::F32)
}

fn expected(name: &str) -> Vec<f32> {
    open("expected.safetensors").f32(name, &[1, 16, 2, 2, 4]).expect("latents")
}

fn generate(pipeline: &VideoPipeline) -> Generated {
    let request = GenerateRequest {
        negative: String::new(),
        width: 32,
        height: 16,
        frames: 5,
        steps: 4,
        guidance: 3.0.into(),
        latents: Some(expected("noise")),
        ..pipeline.request("A rocket flying over the ocean at sunset")
    };
    pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {})).expect("it generates")
}

/// The clip of these parts, compared with what the reference makes of the weights in them.
fn check(name: &str, case: &str, parts: ModelParts, allowed: f64) -> Generated {
    let pipeline = load(parts).unwrap_or_else(|e| panic!("{name}: {e}"));
    let made = generate(&pipeline);
    let error = nmse(&made.latents, &expected(case));
    println!("{name}: NMSE {error:.2e}");
    assert!(error <= allowed, "{name}: NMSE {error:.2e}");
    made
}

const DIFFUSERS: [&str; 3] = ["diffusers/transformer", "diffusers/vae", "diffusers/text_encoder"];

#[test]
fn the_same_prompt_from_three_containers_gives_the_same_clip() {
    let plain = check("diffusers f32", "f32", parts(&DIFFUSERS), 1e-9);
    let comfy = check("ComfyUI fp16", "f32", parts(&["comfy_fp16.safetensors", "vae.safetensors", "umt5_fp16.safetensors"]), 1e-9);
    assert!(plain.latents == comfy.latents && plain.frames == comfy.frames, "all weights are f16 numbers");
    let files = ["wan_q8_0.gguf", "umt5_q8_0.gguf", "vae.safetensors"];
    let quantised = check("GGUF Q8_0", "q8_0", parts(&files), 1e-9);
    let error = nmse(&quantised.latents, &plain.latents);
    assert!(error > 1e-7 && error < 1e-3, "what 8 bits cost: {error:.2e}");
}

#[test]
fn fp8_and_int8_files_are_read_with_their_scales() {
    for case in ["fp8_old", "fp8_new"] {
        check(case, case, parts(&[&format!("{case}.safetensors"), "vae.safetensors", "umt5_fp16.safetensors"]), 1e-9);
    }
}

fn lora(name: &str, strength: f32) -> Lora {
    Lora { file: open(&format!("lora_{name}.safetensors")), strength, alpha: None }
}

#[test]
fn adaptations_of_every_spelling_are_those_merged_by_the_reference() {
    for form in ["comfy", "kohya", "diffusers", "peft", "bare", "lycoris", "old", "mochi", "metadata"] {
        let adapted = ModelParts { loras: vec![lora(form, 1.0)], ..parts(&DIFFUSERS) };
        let pipeline = load(adapted).unwrap_or_else(|e| panic!("{form}: {e}"));
        let [report] = pipeline.loras() else { panic!("{form}: one report") };
        assert_eq!((report.applied, report.unused.len(), report.ranks), (report.total, 0, [2, 4]), "{form}: {report}");
        let error = nmse(&generate(&pipeline).latents, &expected("lora"));
        println!("{form}: NMSE {error:.2e}");
        // One of them holds f16.
        assert!(error <= if form == "bare" { 1e-5 } else { 1e-9 }, "{form}: NMSE {error:.2e}");
    }
}

#[test]
fn several_adaptations_add_up_at_their_strengths() {
    let both = vec![lora("plain", 0.5), lora("comfy", 1.0)];
    let adapted = ModelParts { loras: both, ..parts(&["comfy_fp16.safetensors", "vae.safetensors", "umt5_fp16.safetensors"]) };
    let pipeline = load(adapted).expect("it loads");
    let [plain, comfy] = pipeline.loras() else { panic!("two reports") };
    assert_eq!((plain.applied, plain.total, comfy.applied), (5, 6, 12), "{plain}");
    assert!(
        plain
            .to_string()
            .ends_with("lora_plain.safetensors: 5 of 6 tensors applied; not used: diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight"),
        "{plain}"
    );
    let error = nmse(&generate(&pipeline).latents, &expected("loras"));
    println!("two at once: NMSE {error:.2e}");
    assert!(error <= 1e-9, "NMSE {error:.2e}");
    // On quantised weights too: what is added is the same.
    let quantised = ModelParts { loras: vec![lora("comfy", 1.0)], ..parts(&["wan_q8_0.gguf", "umt5_q8_0.gguf", "vae.safetensors"]) };
    let error = nmse(&generate(&load(quantised).expect("it loads")).latents, &expected("lora"));
    assert!(error < 1e-3, "on Q8_0: NMSE {error:.2e}");
    let none = ModelParts { loras: vec![lora("comfy", 0.0)], ..parts(&DIFFUSERS) };
    assert!(nmse(&generate(&load(none).expect("it loads")).latents, &expected("f32")) <= 1e-9, "no strength, no change");
}

#[test]
fn files_in_memory_make_up_a_model_too() {
    let mut files = ModelFiles::new("memory");
    let mut insert = |name: &str, from: &str| files.insert(name, std::fs::read(golden().join(from)).expect("a fixture"));
    for name in ["comfy_fp16.safetensors", "vae.safetensors", "umt5_q8_0.gguf"] {
        insert(&format!("any/{name}"), &format!("containers/{name}"));
    }
    insert("tokenizer.json", "tokenizer/unigram.json");
    insert("lora/0", "containers/lora_kohya.safetensors");
    files.adapt("lora/0", 1.0, None).expect("it is there");
    assert_eq!(files.adapt("lora/1", 1.0, None).expect_err("absent").code(), "not-found");
    let pipeline = VideoPipeline::from_files(Device::cpu(), files, WeightFormat::F32).expect("it loads");
    assert_eq!(pipeline.loras().len(), 1, "one report");
    let error = nmse(&generate(&pipeline).latents, &expected("lora"));
    // The text encoder is quantised.
    assert!(error < 1e-3, "NMSE {error:.2e}");
}

/// A file of f32 tensors.
fn bytes(tensors: &[(&'static str, &'static [usize])]) -> Vec<u8> {
    let values = vec![0.5; 4096];
    let new = |(name, shape): &(&'static str, &'static [usize])| (*name, *shape, Values::F32(&values[..shape.iter().product()]));
    let tensors: Vec<_> = tensors.iter().map(new).map(|(name, shape, values)| NewTensor { name, shape, values }).collect();
    to_bytes(&tensors).expect("valid")
}

fn file(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::from_files("test", vec![("test".into(), bytes)]).expect("a file")
}

/// The same tensors with what PEFT says about them.
fn with_metadata(bytes: &[u8], told: &str) -> Vec<u8> {
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize);
    let header = std::str::from_utf8(header).expect("JSON").strip_prefix('{').expect("an object");
    let header = format!(r#"{{"__metadata__":{{"lora_adapter_metadata":{}}},{header}"#, serde_json::Value::from(told));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn adaptations_that_do_not_fit_are_refused() {
    let adapt = |tensors: &[(&'static str, &'static [usize])], alpha| {
        load(ModelParts { loras: vec![Lora { file: file(bytes(tensors)), strength: 1.0, alpha }], ..parts(&DIFFUSERS) })
    };
    let wide = adapt(&[("blocks.0.self_attn.q.lora_A.weight", &[4, 64]), ("blocks.0.self_attn.q.lora_B.weight", &[64, 4])], None);
    let wide = wide.err().expect("of a wider model");
    assert!(matches!(wide, Error::WrongShape { .. }) && wide.to_string().contains("expected [rank, 32]"), "{wide}");
    let other = adapt(&[("single_blocks.0.linear1.lora_A.weight", &[4, 64])], None).err().expect("of another model");
    assert!(other.to_string().contains("expected names of layers that this model has"), "{other}");
    let dora = adapt(&[("blocks.0.self_attn.q.dora_scale", &[32, 1])], None).err().expect("not done");
    assert!(dora.to_string().contains("dora_scale"), "{dora}");
    // Without alpha the scale is 1; given, it is alpha by rank.
    let pair: [(&'static str, &'static [usize]); 2] =
        [("blocks.0.self_attn.q.lora_A.weight", &[4, 32]), ("blocks.0.self_attn.q.lora_B.weight", &[32, 4])];
    let [plain, four, eight] = [None, Some(4.0), Some(8.0)].map(|alpha| generate(&adapt(&pair, alpha).expect("fits")).latents);
    assert!(plain == four && plain != eight, "alpha by rank");
    // What the file says of one module goes before what it says of all.
    for (told, expected) in [
        (r#"{"lora_alpha": 8}"#, &eight),
        (r#"{"lora_alpha": 2, "alpha_pattern": {"blocks.0.self_attn.q": 8}}"#, &eight),
        (r#"{"lora_alpha": 8, "alpha_pattern": {"blocks.1.self_attn.q": 2}}"#, &eight),
        (r#"{"alpha_pattern": {"blocks.1.self_attn.q": 8}}"#, &plain),
    ] {
        let lora = Lora { file: file(with_metadata(&bytes(&pair), told)), strength: 1.0, alpha: None };
        let found = generate(&load(ModelParts { loras: vec![lora], ..parts(&DIFFUSERS) }).expect("fits"));
        assert!(found.latents == *expected, "{told}");
    }
}

/// The tensors of the ComfyUI file, under the names that `rename` gives them.
fn edited(name: &str, rename: impl Fn(&str) -> Option<String>) -> ModelParts {
    let edited = open(name).renamed(rename);
    ModelParts { weights: vec![edited, open("vae.safetensors"), open("umt5_fp16.safetensors")], ..parts(&[]) }
}

#[test]
fn the_norms_that_swap_their_names_change_the_clip() {
    // What a reader that keeps the authors' numbers would do, were both there: here only one has parameters.
    let naive = edited("comfy_fp16.safetensors", |name| Some(name.replace(".norm3.", ".norm2.")));
    let error = load(naive).err().expect("the third norm has no parameters in diffusers");
    assert!(matches!(error, Error::UnexpectedTensors { .. }), "{error}");
    let names = recognise(&open("comfy_fp16.safetensors")).expect("known").0.remove(0).checkpoint;
    assert!(names.contains("blocks.0.norm2.weight") && !names.contains("blocks.0.norm3.weight"), "the affine one is the second");
}

#[test]
fn what_a_gguf_file_calls_itself_counts_for_nothing() {
    let named = std::fs::read(golden().join("containers/wan_q8_0.gguf")).expect("a fixture");
    let replaced = |from: &[u8], to: &[u8]| {
        let at = named.windows(from.len()).position(|bytes| bytes == from).expect("it names its architecture");
        [&named[..at], to, &named[at + from.len()..]].concat()
    };
    let config = |bytes: Vec<u8>| recognise(&file(bytes)).expect("by its tensors").0.remove(0).config;
    let plain = config(named.clone());
    // As some publishers call all of their files, as another family, and without a name.
    for (from, to) in [
        (&b"\x03\0\0\0\0\0\0\0wan"[..], &b"\x03\0\0\0\0\0\0\0pig"[..]),
        (b"\x03\0\0\0\0\0\0\0wan", b"\x03\0\0\0\0\0\0\0ltx"),
        (b"general.architecture", b"general.architexture"),
    ] {
        assert_eq!(config(replaced(from, to)), plain, "{}", String::from_utf8_lossy(to));
    }
}

#[test]
fn scales_that_are_not_used_are_errors() {
    // Without its weight's scale a matrix would be a thousand times too large.
    let lost = edited("fp8_old.safetensors", |name| (!name.ends_with("blocks.0.ffn.0.scale_weight")).then(|| name.into()));
    let error = load(lost).err().expect("a scale is missing").to_string();
    assert!(error.contains("`blocks.0.ffn.net.0.proj.scale_weight` is missing"), "{error}");
    let spare = edited("fp8_old.safetensors", |name| Some(name.replace("blocks.0.ffn.0.scale_weight", "blocks.0.ffn.0.scale_wight")));
    assert!(load(spare).is_err(), "a misspelt scale");
    let unused = edited("comfy_fp16.safetensors", |name| Some(name.replace("blocks.1.norm3.bias", "blocks.1.ffn.0.weight_scale")));
    assert!(load(unused).is_err(), "a scale for a matrix that needs none");
}

#[test]
fn files_that_cannot_be_used_say_why() {
    let raw = edited("wan_q8_0.gguf", |name| (name != "patch_embedding.weight").then(|| name.into()));
    let error = load(raw).err().expect("not repaired").to_string();
    assert!(error.contains("llama-quantize"), "{error}");
    let missing = load(parts(&["wan_q8_0.gguf", "umt5_q8_0.gguf"])).err().expect("no autoencoder").to_string();
    assert!(missing.contains("the autoencoder of the model (`vae`)"), "{missing}");
    let twice = load(parts(&["wan_q8_0.gguf", "comfy_fp16.safetensors"])).err().expect("two denoisers").to_string();
    assert!(twice.contains("it holds a transformer, and so does"), "{twice}");
    let stranger = load(parts(&["expected.safetensors"])).err().expect("latents").to_string();
    assert!(stranger.contains("those of no model that is known"), "{stranger}");
    // As wide as UMT5, but with one table of positions for all blocks.
    let t5 = open("umt5_fp16.safetensors").renamed(|name| (!name.contains("block.1.layer.0.SelfAttention.relative")).then(|| name.into()));
    let t5 = ModelParts { weights: vec![open("wan_q8_0.gguf"), open("vae.safetensors"), t5], ..parts(&[]) };
    let error = load(t5).err().expect("T5 is no UMT5").to_string();
    assert!(error.contains("`T5EncoderModel`") && error.contains("UMT5EncoderModel"), "{error}");
    let more = edited("comfy_fp16.safetensors", |name| Some(name.replace("blocks.1.ffn.2.bias", "blocks.1.ffn.2.other")));
    assert!(load(more).is_err(), "a tensor that no layer has");
    for (format, reason) in [
        (r#"{"layers":{"blocks.0.q":{"format":"nvfp4"}}}"#, "`nvfp4`"),
        (r#"{"layers":{"a":{"format":"int8_tensorwise","convrot":true}}}"#, "convrot"),
    ] {
        let header = format!(r#"{{"__metadata__":{{"_quantization_metadata":{}}}}}"#, serde_json::Value::from(format));
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        let error = Checkpoint::from_files("test", vec![("test".into(), bytes)]).expect_err("not read").to_string();
        assert!(error.contains(reason) && error.contains("float8_e4m3fn"), "{error}");
    }
}
