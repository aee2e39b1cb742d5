//! Every model class against PyTorch, over the fixtures of `tests/golden`.

mod support;

use support::check_folder;

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
        check_folder(&format!("wan_causal/{folder}"));
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
fn autoencoders_of_images_match_the_reference() {
    for folder in ["small", "first_names", "plain"] {
        check_folder(&format!("kl_vae/{folder}"));
    }
}

#[test]
fn text_encoders_match_the_reference() {
    for folder in ["bert/tiny", "t5/gated_gelu", "t5/relu", "umt5/tiny"] {
        check_folder(folder);
    }
}

#[test]
fn image_encoders_match_the_reference() {
    for folder in ["clip_vision/small", "clip_vision/one_layer"] {
        check_folder(folder);
    }
}
