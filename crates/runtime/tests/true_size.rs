//! Published models at their true size, without their weights: every tensor that the reference class has is taken by our
//! loader at its shape, and none is missing. `tests/golden/true_size` holds a configuration and the list of tensors of each.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use kinora_kernels::{AdapterSelect, Device, Error as Kernels, WeightFormat};
use kinora_runtime::executables::Executables;
use kinora_runtime::models::component::Component;
use kinora_runtime::models::family::Direction;
use kinora_runtime::models::layout::recognise;
use kinora_runtime::pipeline::Coder;
use kinora_runtime::shape::LatentShape;
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{Budget, Error, Result};
use support::golden;

/// Name and extents of each tensor.
type Tensors = Vec<(String, Vec<u64>)>;

/// Bytes of an element of F16, in which the files pretend to be.
const ELEMENT_BYTES: u64 = 2;

/// The tensors of a list; `{0..2}` in a name stands for three.
fn tensors(list: &str) -> Tensors {
    let mut out = Vec::new();
    for line in list.lines() {
        let (name, shape) = line.split_once(' ').expect("a name and a shape");
        let shape: Vec<u64> = serde_json::from_str(shape).expect("a list of extents");
        match name.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?))) {
            None => out.push((name.to_owned(), shape)),
            Some((head, (range, tail))) => {
                let (first, last) = range.split_once("..").expect("a range");
                let [first, last] = [first, last].map(|n| n.parse::<usize>().expect("a number"));
                out.extend((first..=last).map(|i| (format!("{head}{i}{tail}"), shape.clone())));
            }
        }
    }
    out
}

/// A component folder with weights of zeros that occupy no disk: a file with a header and a hole.
struct Hollow(PathBuf);

impl Hollow {
    fn new(name: &str, config: &str, tensors: &[(String, Vec<u64>)]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("true-size-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a writable folder");
        std::fs::write(folder.join("config.json"), config).expect("writable");
        let mut end = 0;
        let mut header = serde_json::Map::new();
        for (name, shape) in tensors {
            let start = end;
            end += shape.iter().product::<u64>() * ELEMENT_BYTES;
            header.insert(name.clone(), serde_json::json!({ "dtype": "F16", "shape": shape, "data_offsets": [start, end] }));
        }
        let header = serde_json::Value::Object(header).to_string();
        let mut file = File::create(folder.join("model.safetensors")).expect("writable");
        file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(header.as_bytes())).expect("writable");
        file.set_len(8 + header.len() as u64 + end).expect("a file system with sparse files");
        Self(folder)
    }

    fn open(&self) -> Result<Component> {
        Component::open(&self.0, WeightFormat::F16)
    }

    /// The weights alone, without a configuration, must imply what is published.
    fn check_recognised(&self, name: &str, config: &str) {
        let published: serde_json::Value = serde_json::from_str(config).expect("JSON");
        let file = Checkpoint::open(self.0.join("model.safetensors")).expect("a header");
        let (found, strangers) = recognise(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let [found] = found.as_slice() else { panic!("{name}: {} components recognised", found.len()) };
        assert!(strangers.is_empty(), "{name}: {strangers:?}");
        for (key, value) in found.config.as_object().expect("an object") {
            // Statistics are no tensors; those of the fixtures are made up.
            let said = &published[key];
            assert!(said.is_null() || key.starts_with("latents") || said == value, "{name}: {key} is {value}, published as {said}");
        }
        let loaded = Component::open_file(&self.0.join("model.safetensors"), None, WeightFormat::F16);
        assert!(loaded.is_ok(), "{name}: {}", loaded.err().expect("an error"));
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap_or_else(|e| panic!("{}/{file}: {e}", folder.display()))
}

#[test]
fn loaders_demand_the_tensors_of_the_reference_at_true_size() {
    let folders: Vec<PathBuf> =
        std::fs::read_dir(golden().join("true_size")).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    assert!(!folders.is_empty(), "no configurations");
    for folder in folders {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let tensors = tensors(&read(&folder, "tensors.txt"));
        let parameters: u64 = tensors.iter().map(|(_, shape)| shape.iter().product::<u64>()).sum();
        println!("{name}: {} tensors, {:.1} M values", tensors.len(), parameters as f64 / 1e6);
        let (config, hollow) = (read(&folder, "config.json"), Hollow::new(&name, &read(&folder, "config.json"), &tensors));
        let opened = hollow.open();
        assert!(opened.is_ok(), "{name}: {}", opened.err().expect("an error"));
        hollow.check_recognised(&name, &config);
    }
}

#[test]
fn a_model_that_sees_a_picture_is_not_taken_for_one_that_does_not() {
    // Fun-InP 1.3B: the width of text-to-video, 36 channels. By its width alone it would be taken for that.
    let mut tensors = tensors(&read(&golden().join("true_size/wan2.1-t2v-1.3b"), "tensors.txt"));
    tensors.iter_mut().filter(|(name, _)| name == "patch_embedding.weight").for_each(|(_, shape)| shape[1] = 36);
    let hollow = Hollow::new("inpaint", "{}", &tensors);
    let file = Checkpoint::open(hollow.0.join("model.safetensors")).expect("a header");
    let found = recognise(&file).expect("known").0.remove(0).config;
    let sizes = ["in_channels", "out_channels", "num_attention_heads", "num_layers"].map(|key| found[key].as_u64());
    assert_eq!(sizes, [36, 16, 12, 30].map(Some), "{found}");
}

#[test]
fn a_single_file_of_two_components_is_taken_apart() {
    let list = read(&golden().join("containers"), "ltx_single_file.txt");
    let hollow = Hollow::new("single-file", "{}", &tensors(&list));
    let file = hollow.0.join("model.safetensors");
    for component in ["transformer", "vae"] {
        let opened = Component::open_file(&file, Some(component), WeightFormat::F16);
        assert!(opened.is_ok(), "{component}: {}", opened.err().expect("an error"));
    }
    let open = Component::open_file(&file, None, WeightFormat::F16).err().expect("which of the two is left open");
    assert!(matches!(open, Error::InvalidRequest { .. }), "{open}");
}

#[test]
fn a_tensor_too_many_too_few_or_of_another_shape_is_noticed() {
    let folder = golden().join("true_size/ltx-2b-transformer");
    let (config, all) = (read(&folder, "config.json"), tensors(&read(&folder, "tensors.txt")));
    let name = "transformer_blocks.27.ff.net.2.weight";
    let edited = |edit: &dyn Fn(&mut Tensors)| {
        let mut tensors = all.clone();
        edit(&mut tensors);
        Hollow::new("edited", &config, &tensors).open().err().expect("must not load")
    };
    let missing = edited(&|tensors| tensors.retain(|(n, _)| n != name));
    assert!(matches!(&missing, Error::MissingTensor { name: found, .. } if found == name), "{missing}");
    let left = edited(&|tensors| tensors.push(("transformer_blocks.28.ff.net.2.weight".into(), vec![1])));
    assert!(matches!(&left, Error::UnexpectedTensors { count: 1, .. }), "{left}");
    let shape = edited(&|tensors| tensors.iter_mut().filter(|(n, _)| n == name).for_each(|(_, shape)| shape.swap(0, 1)));
    assert!(matches!(&shape, Error::WrongShape { name: found, .. } if found == name), "{shape}");
}

#[test]
fn a_weight_that_a_gpu_cannot_bind_is_named_before_anything_runs() {
    let folder = golden().join("true_size/ltx-vae-0.9.8");
    let hollow = Hollow::new("binding", &read(&folder, "config.json"), &tensors(&read(&folder, "tensors.txt")));
    let Component::Autoencoder(vae) = hollow.open().expect("published") else { panic!("no autoencoder") };
    let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).expect("an adapter");
    let Device::Gpu(gpu) = &device else { panic!("no GPU") };
    let allowed = gpu.info().max_binding_bytes;
    let executables = Executables::default();
    let coder = Coder { vae: vae.as_ref(), device: &device, executables: &executables, budget: Budget::default() };
    let found = coder.memory(Direction::Decode, LatentShape { channels: 128, grid: [1, 2, 2] });
    let largest = 4096 * 1024 * 27 * ELEMENT_BYTES;
    println!("{}: {largest} bytes, {allowed} allowed", device.name());
    match found {
        Ok(_) => assert!(largest <= allowed, "the adapter binds {allowed} bytes"),
        Err(Error::Kernels(Kernels::Limit { what, needed, limit, remedy })) => {
            assert!(largest > allowed && limit == allowed && needed == largest, "{needed} of {limit}");
            assert!(what.starts_with("decoder.") && !remedy.contains("f16"), "{what}: {remedy}");
        }
        Err(error) => panic!("{error}"),
    }
}
