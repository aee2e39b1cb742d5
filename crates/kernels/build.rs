//! Links and checks the shaders and writes `kernels.rs`; see `kinora-shader-build`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let folder = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_default());
    let shaders = folder("CARGO_MANIFEST_DIR").join("shaders");
    println!("cargo:rerun-if-changed={}", shaders.display());
    match kinora_shader_build::write(&shaders, &folder("OUT_DIR")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
