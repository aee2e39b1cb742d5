//! The plan of the LTX video decoder, its latent statistics and requests it cannot serve.

mod support;

use kinora_kernels::{Cadence, Device, Executable, Plan, WeightFormat};
use kinora_runtime::eval::eval;
use kinora_runtime::models::component::Component;
use kinora_runtime::nn::embed::TIMESTEP_FEATURES;
use kinora_runtime::weights::{Checkpoint, NewTensor, Values, to_bytes};
use support::{golden, ltx_vae, snapshot};

#[test]
fn norms_and_shortcuts_cost_no_step_of_their_own() {
    let vae = ltx_vae("v095");
    let plan = Plan::new();
    let z = plan.input("z", &[1, 2, 1, 2, 7], Cadence::Once);
    let features = plan.input("timestep", &[1, TIMESTEP_FEATURES], Cadence::Once);
    plan.output("sample", vae.decoder.forward(&plan, z, Some(features)));
    let graph = plan.finish().expect("shapes fit");
    let of = |prefix: &str| graph.steps.iter().filter(|s| s.label.starts_with(prefix)).map(|s| s.label.as_str()).collect::<Vec<_>>();
    let resnet = of("up_blocks.0.resnets.0.");
    assert_eq!(resnet.len(), 4, "twice norm and convolution: {resnet:?}");
    assert_eq!(of("up_blocks.0.upsamplers.0.").len(), 4, "repeat, convolution, shuffle, first frame dropped: {graph}");
    snapshot("ltx_vae_decoder.txt", &graph.to_string());
}

#[test]
fn denormalised_latents_are_those_that_were_normalised() {
    let vae = ltx_vae("v095");
    let z: Vec<f32> = (0..21).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut normalized = z.clone();
    vae.stats.normalize(&mut normalized);
    assert!(normalized.iter().zip(&z).all(|(a, b)| a != b), "the fixture's statistics are not 0 and 1");
    let plan = Plan::new();
    plan.output("z", vae.stats.denormalize(&plan, plan.input("normalized", &[3, 7], Cadence::Once)));
    let mut run = Executable::new(&Device::cpu(), plan.finish().expect("shapes fit")).expect("the CPU runs every plan");
    run.write("normalized", &normalized).expect("declared");
    pollster::block_on(run.run()).expect("runs");
    for (found, expected) in pollster::block_on(run.read("z")).expect("declared").iter().zip(&z) {
        assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
    }
}

#[test]
fn requests_that_do_not_fit_say_what_does() {
    let message = |folder: &str, operation, name: &str, shape: &[usize]| {
        let model = Component::open(&golden().join("ltx_vae").join(folder), WeightFormat::F32).expect("a valid fixture");
        let values = vec![0.0; shape.iter().product()];
        let file = to_bytes(&[NewTensor { name, shape, values: Values::F32(&values) }]).expect("a tensor");
        let inputs = Checkpoint::from_files("inputs", vec![("inputs".into(), file)]).expect("a file");
        pollster::block_on(eval(&model, operation, &inputs, &Device::cpu())).expect_err("cannot be served").to_string()
    };
    let frames = message("v090", "encode", "x", &[1, 3, 10, 16, 16]);
    assert!(frames.contains("1 + 4·n frames") && frames.contains("[1, 3, 10, 16, 16]"), "{frames}");
    let channels = message("v090", "decode", "z", &[1, 5, 1, 1, 1]);
    assert!(channels.contains("expected [1, 6, 1, 1, 1]"), "{channels}");
    let noise = message("v095", "decode", "z", &[1, 7, 1, 1, 1]);
    assert!(noise.contains("invalid temb"), "{noise}");
    let operation = message("v095", "forward", "z", &[1, 7, 1, 1, 1]);
    assert!(operation.contains("found forward, expected encode or decode"), "{operation}");
    let name = message("v095", "decode", "latents", &[1]);
    assert!(name.contains("found latents, expected z, temb"), "{name}");
}
