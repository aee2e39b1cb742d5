//! What the build makes of `shaders/`: one module per kernel with its `Params`, `Variant` and linked WGSL.

#![allow(clippy::missing_assert_message, reason = "the generated layout assertions name the field they check")]

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
