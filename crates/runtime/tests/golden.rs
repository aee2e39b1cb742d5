//! Every model class against PyTorch, over the fixtures of `tests/golden`.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::eval::eval;
use kinora_runtime::manifest::Index;
use kinora_runtime::models::component::Component;
use kinora_runtime::weights::{Checkpoint, NewTensor, Values, to_bytes};
use support::{check_folder, check_folder_within, devices, fixture, golden, nmse};

#[test]
fn ltx_transformers_match_the_reference() {
    for folder in ["two_layers", "head32", "affine_sharded", "head64"] {
        check_folder(&format!("ltx_transformer/{folder}"));
    }
}

#[test]
fn ltx_autoencoders_match_the_reference() {
    for folder in ["v090", "v090_causal_decoder", "v095", "default_shape"] {
        check_folder(&format!("ltx_vae/{folder}"));
    }
}

#[test]
fn ltx_upsamplers_match_the_reference() {
    for folder in ["space", "time", "frames"] {
        check_folder(&format!("ltx_upsampler/{folder}"));
    }
}

#[test]
fn wan_transformers_match_the_reference() {
    for folder in ["t2v", "ti2v", "i2v", "flf2v"] {
        check_folder(&format!("wan_transformer/{folder}"));
    }
    check_folder("wan_vace/transformer");
    for folder in ["r", "t_minus_r"] {
        check_folder(&format!("wan_any_flow/{folder}"));
    }
}

#[test]
fn a_cache_is_what_recomputation_under_a_block_causal_mask_is() {
    for folder in ["chunks", "frames", "whole"] {
        check_folder_within(&format!("wan_causal/{folder}"), 1e-10);
    }
}

#[test]
fn wan_autoencoders_match_the_reference() {
    for folder in ["v21", "v21_two_stages", "v22"] {
        check_folder(&format!("wan_vae/{folder}"));
    }
}

#[test]
fn stages_of_a_cascade_match_the_reference() {
    for folder in ["cascade/upscale", "cascade/interpolate"] {
        check_folder(folder);
    }
}

#[test]
fn tiny_autoencoders_match_the_reference() {
    for folder in ["taew2_1", "taew2_2"] {
        check_folder(&format!("taehv/{folder}"));
    }
}

#[test]
fn cogvideox_transformers_match_the_reference() {
    for folder in ["sincos", "rotary", "patches_in_time", "plain"] {
        check_folder(&format!("cogvideox_transformer/{folder}"));
    }
}

#[test]
fn cogvideox_autoencoders_match_the_reference() {
    for folder in ["small", "one_halving"] {
        check_folder(&format!("cogvideox_vae/{folder}"));
    }
}

#[test]
fn latte_transformers_match_the_reference() {
    for folder in ["small", "affine"] {
        check_folder(&format!("latte_transformer/{folder}"));
    }
}

#[test]
fn transformers_of_images_match_the_reference() {
    for folder in ["dit_transformer/small", "dit_transformer/affine", "dit_transformer/official"] {
        check_folder(folder);
    }
    for folder in ["uvit/classes", "uvit/convolution", "uvit/text", "mdt", "diffit"] {
        check_folder(folder);
    }
}

#[test]
fn autoencoders_of_images_match_the_reference() {
    for folder in ["small", "first_names", "plain"] {
        check_folder(&format!("kl_vae/{folder}"));
    }
}

#[test]
fn text_encoders_match_the_reference() {
    for folder in ["clip_text/quick_gelu", "clip_text/gelu", "bert/tiny", "t5/gated_gelu", "t5/relu", "umt5/tiny"] {
        check_folder(folder);
    }
}

#[test]
fn image_encoders_match_the_reference() {
    for folder in ["clip_vision/small", "clip_vision/one_layer"] {
        check_folder(folder);
    }
}

/// The largest weight of a branch in the test of large values: as f16 has it, and with a sum of a few beyond what f16 has.
const LARGE: f32 = 6e4;

/// A checkpoint whose residual branches end a hundred thousand times as large: `ends` are the names of their last weights.
fn enlarged(folder: &str, ends: &[&str]) -> Checkpoint {
    let original = Checkpoint::open(golden().join(folder)).expect("a fixture");
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = original
        .names()
        .map(|name| {
            let tensor = original.get(name).expect("it is named");
            let mut values = tensor.to_f32();
            if ends.iter().any(|end| name.ends_with(end)) {
                let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                values.iter_mut().for_each(|value| *value *= LARGE / largest);
            }
            (name.to_owned(), tensor.shape.to_vec(), values)
        })
        .collect();
    let new: Vec<NewTensor<'_>> =
        tensors.iter().map(|(name, shape, values)| NewTensor { name, shape, values: Values::F32(values) }).collect();
    Checkpoint::from_files("enlarged", vec![("enlarged".into(), to_bytes(&new).expect("they fit"))]).expect("just written")
}

#[test]
fn activations_beyond_f16_pass_through_with_f16_weights() {
    for (folder, case, ends) in [
        ("t5/gated_gelu", "batch2", &[".o.weight", ".wo.weight"][..]),
        ("umt5/tiny", "batch2", &[".o.weight", ".wo.weight"]),
        ("ltx_vae/v095", "decode_2x2x1x2", &[".conv2.conv.weight"]),
        ("wan_vae/v21", "decode_1x3x2x3", &[".conv2.weight"]),
        ("kl_vae/small", "decode_2x2x3", &[".conv2.weight"]),
    ] {
        let config = std::fs::read_to_string(golden().join(folder).join("config.json")).expect("a fixture");
        let checkpoint = enlarged(folder, ends);
        let inputs = Checkpoint::open(golden().join(folder).join(format!("inputs_{case}.safetensors"))).expect("a fixture");
        let run = |format, device: &Device| {
            let model = Component::load(&config, "config.json", &checkpoint, format, &Index::default()).expect("loads");
            let found = pollster::block_on(eval(&model, fixture::operation(case), &inputs, device));
            found.unwrap_or_else(|problem| panic!("{folder} on {}: {problem}", device.name()))
        };
        let expected = run(WeightFormat::F32, &Device::cpu());
        for (name, device, _) in devices() {
            for (found, expected) in run(WeightFormat::F16, device).iter().zip(&expected) {
                assert!(found.values.iter().all(|value| value.is_finite()), "{folder} {} on {name}", found.name);
                let error = nmse(&found.values, &expected.values);
                assert!(error <= 1e-3, "{folder} {} on {name}: NMSE {error:.2e}", found.name);
            }
        }
    }
}
