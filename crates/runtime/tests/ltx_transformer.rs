//! The plan of the LTX transformer, its rotary tables, and checkpoints that do not fit.

mod support;

use kinora_kernels::{Cadence, Graph, Plan};
use kinora_runtime::Error;
use kinora_runtime::models::ltx::{TokenLayout, Transformer, TransformerConfig, TransformerInputs};
use kinora_runtime::nn::embed::TIMESTEP_FEATURES;
use kinora_runtime::weights::Checkpoint;
use support::{golden, ltx_transformer, nmse, snapshot};

/// A guided pass: two sequences of six video tokens with four and two text tokens, three timesteps in the whole run.
fn guided_plan(model: &Transformer) -> Graph {
    let plan = Plan::new();
    let config = model.config();
    let rope = model.rope([1, 2, 3], Some([0.32, 32.0, 32.0]));
    let sample = model.forward(
        &plan,
        &TransformerInputs {
            hidden_states: plan.input("hidden_states", &[12, config.in_channels], Cadence::EveryStep),
            encoder_hidden_states: plan.input("encoder_hidden_states", &[6, config.caption_channels], Cadence::Once),
            encoder_mask: None,
            timestep_features: plan.input("timestep_features", &[3, TIMESTEP_FEATURES], Cadence::Once),
            timestep_index: plan.index_input("timestep_index", 12, Cadence::EveryStep),
            rope: plan.constant(&[6, config.width()], &rope),
            layout: TokenLayout { video: vec![6, 6], text: vec![4, 2] },
        },
    );
    plan.output("sample", sample);
    plan.finish().expect("shapes fit")
}

#[test]
fn a_block_takes_twelve_steps() {
    let graph = guided_plan(&ltx_transformer("two_layers", |_| {}).expect("a valid fixture"));
    let steps = |prefix: &str| {
        let replayed = graph.steps.iter().filter(|s| graph.cadence(s) == Cadence::EveryStep);
        replayed.filter(|s| s.label.starts_with(prefix)).count()
    };
    assert_eq!(steps("transformer_blocks.1."), 12, "{graph}");
    // Beside its two blocks a step projects the tokens in, and normalises and projects them out.
    assert_eq!(steps(""), 2 * 12 + 3, "{graph}");
    snapshot("ltx_transformer.txt", &graph.to_string());
}

#[test]
fn rotary_tables_match_the_reference() {
    for (folder, case) in [("two_layers", "batch2"), ("two_layers", "per_token"), ("two_layers", "one_token"), ("head32", "raw_grid")] {
        let model = ltx_transformer(folder, |_| {}).expect("a valid fixture");
        let file = |kind: &str| {
            let name = format!("ltx_transformer/{folder}/{kind}_{case}_rope.safetensors");
            Checkpoint::open(golden().join(name)).expect("a fixture")
        };
        let (inputs, expected) = (file("inputs"), file("expected"));
        let count = |name: &str| inputs.get(name).and_then(|v| v.to_i64()).expect("a count")[0] as usize;
        let grid = ["num_frames", "height", "width"].map(count);
        let scale = inputs.f32("rope_interpolation_scale", &[3]).ok().map(|s| [s[0], s[1], s[2]]);
        let table = model.rope(grid, scale);
        let shape = [1, grid.iter().product(), model.config().width()];
        for (name, part) in [("cos", 0), ("sin", 1)] {
            // The reference repeats the value of a pair for both of its channels.
            let expected = expected.f32(name, &shape).expect("a table");
            let found: Vec<f32> = table.chunks_exact(2).flat_map(|pair| [pair[part]; 2]).collect();
            let error = nmse(&found, &expected);
            println!("{folder} {case} {name}: NMSE {error:.2e}");
            assert!(error <= 1e-10, "{folder} {case} {name}: NMSE {error:.2e}");
        }
    }
}

#[test]
fn checkpoints_that_do_not_fit_name_the_tensor() {
    let error = |config: fn(&mut TransformerConfig)| ltx_transformer("two_layers", config).err().expect("must not load");
    let missing = error(|c| c.num_layers = 3);
    assert!(matches!(&missing, Error::MissingTensor { name, .. } if name.starts_with("transformer_blocks.2.")), "{missing}");
    let shape = error(|c| c.caption_channels = 25);
    assert!(
        matches!(&shape, Error::WrongShape { name, expected, found }
            if name == "caption_projection.linear_1.weight" && expected == "[32, 25]" && found == &[32, 24]),
        "{shape}"
    );
    let left = error(|c| c.num_layers = 1);
    assert!(
        matches!(&left, Error::UnexpectedTensors { first, count, .. } if first.starts_with("transformer_blocks.1.") && *count > 10),
        "{left}"
    );
}
