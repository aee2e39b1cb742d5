//! Links and checks the shaders and writes `kernels.rs`; see `kinora-shader-build`.

use std::path::PathBuf;
use std::process::ExitCode;

use kinora_shader_build::Target;

fn main() -> ExitCode {
    let folder = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_default());
    let shaders = folder("CARGO_MANIFEST_DIR").join("shaders");
    println!("cargo:rerun-if-changed={}", shaders.display());
    // Set by Cargo for the target, not for the machine that builds.
    let browser = std::env::var_os("CARGO_CFG_TARGET_ARCH").is_some_and(|arch| arch == "wasm32");
    match kinora_shader_build::write(&shaders, &folder("OUT_DIR"), if browser { Target::Browser } else { Target::Native }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
