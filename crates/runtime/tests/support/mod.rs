//! Golden fixtures, devices and tolerances shared by the tests.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub(crate) mod everywhere;
pub(crate) mod fixture;
pub(crate) mod model_folder;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub(crate) use fixture::nmse;
pub(crate) use model_folder::ModelFolder;

use kinora_kernels::{AdapterSelect, Device, WeightFormat, adapters};
use kinora_runtime::Result;
use kinora_runtime::conditioning::{CLEAN, FramePlan, SourceFrame};
use kinora_runtime::eval::{Output, eval};
use kinora_runtime::models::component::Component;
use kinora_runtime::models::ltx::{Transformer, TransformerConfig, Vae, VaeConfig};
use kinora_runtime::nn::Weights;
use kinora_runtime::weights::Checkpoint;

/// The folder `tests/golden` of the workspace.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// The CPU twins and every adapter of this machine with every kernel family it runs, with the NMSE allowed for f32 weights.
/// Panics without an adapter: these tests never skip.
pub(crate) fn devices() -> &'static [(String, Device, f64)] {
    static DEVICES: OnceLock<Vec<(String, Device, f64)>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let adapters = pollster::block_on(adapters());
        assert!(!adapters.is_empty(), "these tests need a Vulkan adapter; `cargo xtask test` installs one");
        let on_adapter = |i: usize| {
            adapters[i].presets().into_iter().map(move |preset| {
                let device = pollster::block_on(Device::gpu(&AdapterSelect::Index(i), Some(preset))).expect("a listed adapter opens");
                (device.name(), device, 1e-7)
            })
        };
        let cpu = Device::cpu();
        [(cpu.name(), cpu, 1e-8)].into_iter().chain((0..adapters.len()).flat_map(on_adapter)).collect()
    })
}

/// A plan of so many latent frames with images, sources 0 and on, at some of them.
pub(crate) fn images_at(frames: usize, places: &[usize]) -> FramePlan {
    let give = |plan: FramePlan, (clip, at): (usize, &usize)| plan.give(*at, 1, SourceFrame { clip, group: 0 }, CLEAN);
    places.iter().enumerate().try_fold(FramePlan::generated(frames), give).expect("different places within the clip")
}

/// The LTX transformer of a fixture with an edited configuration.
pub(crate) fn ltx_transformer(folder: &str, edit: impl FnOnce(&mut TransformerConfig)) -> Result<Transformer> {
    let folder = golden().join("ltx_transformer").join(folder);
    let json = std::fs::read_to_string(folder.join("config.json")).expect("a fixture");
    let mut config = TransformerConfig::parse(&json, "config.json")?;
    edit(&mut config);
    let checkpoint = Checkpoint::open(&folder)?;
    let w = Weights::new(&checkpoint, WeightFormat::F32);
    let model = Transformer::load(&w, &config)?;
    w.finish()?;
    Ok(model)
}

/// The LTX autoencoder of a fixture.
pub(crate) fn ltx_vae(folder: &str) -> Vae {
    let folder = golden().join("ltx_vae").join(folder);
    let json = std::fs::read_to_string(folder.join("config.json")).expect("a fixture");
    let config = VaeConfig::parse(&json, "config.json").expect("valid");
    let checkpoint = Checkpoint::open(&folder).expect("a fixture");
    Vae::load(&Weights::new(&checkpoint, WeightFormat::F32), &config).expect("loads")
}

/// Runs every case of a fixture folder on every device and compares it with what the reference computed.
pub(crate) fn check_folder(folder: &str) {
    check_folder_within(folder, f64::INFINITY);
}

/// [`check_folder`] with a bound for f32 that is closer than those of the devices.
pub(crate) fn check_folder_within(folder: &str, most: f64) {
    let folder = golden().join(folder);
    let mut cases: Vec<String> = std::fs::read_dir(&folder)
        .expect("a fixture folder")
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_prefix("inputs_")?.strip_suffix(".safetensors").map(String::from)
        })
        .filter(|case| !case.ends_with("_rope"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    for (device_name, device, allowed) in devices() {
        for (format, allowed) in [(WeightFormat::F32, allowed.min(most)), (WeightFormat::F16, 1e-5)] {
            let model = Component::open(&folder, format).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
            for case in &cases {
                let read = |kind: &str| Checkpoint::open(folder.join(format!("{kind}_{case}.safetensors"))).expect("a fixture");
                let errors = pollster::block_on(fixture::errors(&model, case, &read("inputs"), &read("expected"), device));
                for (name, error) in errors.unwrap_or_else(|problem| panic!("{case}: {problem}")) {
                    println!("{} {case} {name} {device_name} {format:?}: NMSE {error:.2e}", folder.display());
                    assert!(error <= allowed, "{} {case} {name} on {device_name}, {format:?}: NMSE {error:.2e}", folder.display());
                }
            }
        }
    }
}

/// Evaluates one case of a fixture folder.
pub(crate) fn run(model: &Component, folder: &Path, case: &str, device: &Device) -> Vec<Output> {
    let inputs = Checkpoint::open(folder.join(format!("inputs_{case}.safetensors"))).expect("the inputs");
    pollster::block_on(eval(model, fixture::operation(case), &inputs, device)).unwrap_or_else(|e| panic!("{case}: {e}"))
}

/// Compares `found` with a committed file of `tests/snapshots`; `KINORA_UPDATE_SNAPSHOTS=1` writes it instead.
pub(crate) fn snapshot(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("KINORA_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, found).expect("the snapshot folder is writable");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} has changed; review and run with KINORA_UPDATE_SNAPSHOTS=1 to accept:\n{found}");
}
