//! GEMM, attention and convolution against their twins, on every adapter and with every preset.

mod support;

use kinora_kernels::op::Padding;
use kinora_kernels::{
    AdapterSelect, AttentionOptions, Cadence, Conv3dOptions, Device, Executable, Gpu, Graph, Plan, Preset, Shape, Tensor, Weight,
    WeightFormat, adapters, dense_sequences,
};
use support::body::noise;
use support::{assert_matches_twin, devices};

const FORMATS: [WeightFormat; 2] = [WeightFormat::F32, WeightFormat::F16];

fn weight(dims: &[usize], seed: u32, format: WeightFormat) -> Weight {
    let shape = Shape::new(dims);
    Weight::from_f32(format!("w{seed}"), shape, &noise(shape.elements(), seed), format)
}

fn record(build: impl for<'p> FnOnce(&'p Plan) -> Tensor<'p>) -> Graph {
    let plan = Plan::new();
    let y = build(&plan);
    plan.output("y", y);
    plan.finish().expect("valid")
}

#[test]
fn gemm_matches_its_twin_for_ragged_shapes() {
    for format in FORMATS {
        for [m, n, k] in
            [[1, 1, 1], [1, 256, 64], [5, 3, 7], [17, 33, 143], [80, 128, 144], [64, 64, 64], [65, 130, 66], [130, 20, 260], [600, 130, 4]]
        {
            let graph = record(|plan| {
                let x = plan.input("x", &[m, k], Cadence::Once);
                x.linear(&weight(&[n, k], 9, format), Some(&weight(&[n], 10, format)))
            });
            assert_matches_twin(&graph, k, &[]);
        }
    }
}

#[test]
fn gemm_epilogues_match_their_twins() {
    for format in FORMATS {
        for (m, n, k) in [(9, 12, 20), (70, 68, 33)] {
            let (w, b) = (weight(&[n, k], 3, format), weight(&[n], 4, format));
            for activation in 0..3 {
                let graph = record(|plan| {
                    let y = plan.input("x", &[m, k], Cadence::Once).linear(&w, Some(&b));
                    [Tensor::gelu_tanh, Tensor::gelu_erf, Tensor::silu][activation](y)
                });
                assert_eq!(graph.steps.len(), 1, "the activation is an epilogue");
                assert_matches_twin(&graph, k, &[]);
            }
            let residual =
                record(|plan| plan.input("x", &[m, k], Cadence::Once).linear(&w, None) + plan.input("r", &[m, n], Cadence::Once));
            assert_eq!(residual.steps.len(), 1, "the residual is an epilogue");
            assert_matches_twin(&residual, k, &[]);
            let gated = record(|plan| {
                let index = plan.index_input("index", m, Cadence::Once);
                let y = plan.input("x", &[m, k], Cadence::Once).linear(&w, Some(&b));
                y.gated_add(plan.input("r", &[m, n], Cadence::Once), plan.input("table", &[3, 2 * n], Cadence::Once), index, n)
            });
            assert_eq!(gated.steps.len(), 1, "the gate is an epilogue");
            let indices: Vec<u32> = (0..m as u32).map(|i| i % 3).collect();
            assert_matches_twin(&gated, k, &indices);
        }
    }
}

#[test]
fn gemm_reads_columns_of_a_wider_tensor() {
    let graph = record(|plan| {
        let x = plan.input("x", &[21, 40], Cadence::Once);
        x.columns(12, 20).linear(&weight(&[24, 20], 1, WeightFormat::F32), None)
    });
    assert_matches_twin(&graph, 20, &[]);
}

#[test]
fn gemm_takes_more_than_65535_rows() {
    for n in [4, 64] {
        let graph = record(|plan| plan.input("x", &[70_001, 4], Cadence::Once).linear(&weight(&[n, 4], 1, WeightFormat::F32), None));
        assert_matches_twin(&graph, 4, &[]);
    }
}

#[test]
fn an_adapter_opens_with_the_kernels_it_runs_and_no_others() {
    for (i, adapter) in pollster::block_on(adapters()).into_iter().enumerate() {
        for preset in [Preset::Soft, Preset::Quads, Preset::Lanes, Preset::Gpu] {
            let opened = pollster::block_on(Gpu::open(&AdapterSelect::Index(i), Some(preset)));
            assert_eq!(opened.is_ok(), adapter.presets().contains(&preset), "{preset:?} on {}", adapter.name);
            assert!(opened.err().is_none_or(|e| e.code() == "unsupported-kernels"), "{preset:?} on {}", adapter.name);
        }
        assert!(adapter.presets().contains(&adapter.preset), "{}", adapter.name);
    }
}

#[test]
fn stacked_gemm_parts_feed_attention_without_a_copy() {
    for (heads, d) in [(1, 8), (2, 16), (3, 32), (2, 40), (4, 64), (1, 72), (2, 96), (1, 128), (2, 160), (1, 384)] {
        let c = heads * d;
        let graph = record(|plan| {
            let [q, k, v] = plan.input("qkv", &[2 * 37, 3 * c], Cadence::Once).split();
            let sequences = dense_sequences(2, 37, 37);
            q.flash_attention(k, v, &AttentionOptions { heads, scale: 1.0 / (d as f32).sqrt(), sequences, mask: None, bias: None })
        });
        assert_eq!(graph.steps.len(), 1, "views need no step");
        assert_matches_twin(&graph, d + 37, &[]);
    }
}

/// The definition, over plain rows of `heads · d` values: nothing of it knows of padding or views.
fn plain_attention(qkv: &[f32], rows: usize, heads: usize, d: usize) -> Vec<f32> {
    let width = 3 * heads * d;
    let at = |row: usize, part: usize, head: usize, c: usize| f64::from(qkv[row * width + (part * heads + head) * d + c]);
    let value = |row: usize, head: usize, c: usize| {
        let scores = (0..rows).map(|j| (0..d).map(|i| at(row, 0, head, i) * at(j, 1, head, i)).sum::<f64>() / (d as f64).sqrt());
        let weights: Vec<f64> = scores.map(f64::exp).collect();
        let sum: f64 = weights.iter().enumerate().map(|(j, w)| w * at(j, 2, head, c)).sum();
        (sum / weights.iter().sum::<f64>()) as f32
    };
    (0..rows).flat_map(|row| (0..heads * d).map(move |c| (row, c))).map(|(row, c)| value(row, c / d, c % d)).collect()
}

#[test]
fn attention_takes_every_head_size() {
    let sizes = (1..=17).chain([30, 40, 80, 100, 127, 128, 129, 160, 192, 256, 257, 384, 511, 512, 640, 1024]);
    for (heads, d) in sizes.map(|d| if d < 100 { (3, d) } else { (1, d) }) {
        let graph = record(|plan| {
            let [q, k, v] = plan.input("qkv", &[37, 3 * heads * d], Cadence::Once).split();
            let sequences = dense_sequences(1, 37, 37);
            q.flash_attention(k, v, &AttentionOptions { heads, scale: 1.0 / (d as f32).sqrt(), sequences, mask: None, bias: None })
        });
        let qkv = noise(37 * 3 * heads * d, 1);
        let twin = support::run(&Device::cpu(), &graph, &[]);
        for (i, (a, b)) in twin.iter().zip(plain_attention(&qkv, 37, heads, d)).enumerate() {
            assert!((a - b).abs() < 1e-6, "{heads} heads of {d}: value {i} is {a}, the definition says {b}");
        }
        assert_matches_twin(&graph, d + 37, &[]);
    }
}

#[test]
fn a_head_size_beyond_every_kernel_is_refused() {
    for (channels, heads) in [(1025, 1), (10, 3), (8, 0)] {
        let plan = Plan::new();
        let x = plan.input("x", &[4, channels], Cadence::Once);
        let options = AttentionOptions { heads, scale: 1.0, sequences: dense_sequences(1, 4, 4), mask: None, bias: None };
        plan.output("y", x.flash_attention(x, x, &options));
        let error = plan.finish().expect_err("no kernel takes it");
        assert_eq!(error.code(), "shape");
        assert!(error.to_string().contains("a head size of 1 to 1024"), "{error}");
    }
}

#[test]
fn attention_takes_masks_biases_and_packed_lengths() {
    let sequences = vec![[0, 5, 0, 3], [5, 70, 3, 130], [75, 1, 133, 1]];
    for (mask, bias) in [(true, false), (false, true), (true, true)] {
        let graph = record(|plan| {
            let q = plan.input("q", &[76, 32], Cadence::Once);
            let k = plan.input("k", &[134, 32], Cadence::Once);
            let v = plan.input("v", &[134, 32], Cadence::Once);
            let hidden: Vec<f32> = (0..134).map(|i| if i % 5 == 1 { -10_000.0 } else { 0.0 }).collect();
            let options = AttentionOptions {
                heads: 2,
                scale: 0.3,
                sequences: sequences.clone(),
                mask: mask.then(|| plan.constant(&[134], &hidden)),
                bias: bias.then(|| plan.input("bias", &[2, 70, 130], Cadence::Once)),
            };
            q.flash_attention(k, v, &options)
        });
        assert_matches_twin(&graph, 200, &[]);
    }
}

#[test]
fn attention_with_equal_keys_is_the_mean_of_the_values() {
    let graph = record(|plan| {
        let q = plan.input("q", &[9, 16], Cadence::Once);
        let k = plan.constant(&[40, 16], &[0.5; 640]);
        let ramp: Vec<f32> = (0..640).map(|i| (i / 16) as f32).collect();
        let v = plan.constant(&[40, 16], &ramp);
        q.flash_attention(k, v, &AttentionOptions { heads: 2, scale: 1.0, sequences: dense_sequences(1, 9, 40), mask: None, bias: None })
    });
    for device in devices() {
        for value in support::run(device, &graph, &[]) {
            assert!((value - 19.5).abs() < 1e-4, "{value} on {}", device.name());
        }
    }
}

#[test]
fn a_nan_in_one_sequence_does_not_reach_another() {
    let graph = record(|plan| {
        let mut values = noise(80 * 16, 3);
        values[40 * 16..].fill(f32::NAN);
        let x = plan.constant(&[80, 16], &values);
        x.flash_attention(x, x, &AttentionOptions { heads: 1, scale: 0.25, sequences: dense_sequences(2, 40, 40), mask: None, bias: None })
    });
    for device in devices() {
        let y = support::run(device, &graph, &[]);
        assert!(y[..640].iter().all(|v| v.is_finite()), "first sequence on {}", device.name());
        assert!(y[640..].iter().all(|v| v.is_nan()), "second sequence on {}", device.name());
    }
}

fn same(kernel: [usize; 3]) -> Conv3dOptions {
    let half = kernel.map(|k| k / 2);
    Conv3dOptions { stride: [1; 3], front: half, back: half, time_padding: Padding::Replicate, space_padding: Padding::Zero }
}

#[test]
fn conv3d_matches_its_twin() {
    let causal = Conv3dOptions { front: [2, 1, 1], back: [0, 1, 1], ..same([3; 3]) };
    let strided = Conv3dOptions { stride: [2, 2, 2], front: [2, 1, 1], back: [0, 1, 1], ..same([3; 3]) };
    let edge = Conv3dOptions { space_padding: Padding::Replicate, time_padding: Padding::Zero, ..same([3; 3]) };
    let cases = [
        ([1, 3, 5, 7, 5], 6, [3, 3, 3], same([3; 3])),
        ([2, 4, 4, 17, 8], 20, [3, 3, 3], causal),
        ([1, 5, 6, 9, 3], 16, [3, 3, 3], strided),
        ([1, 2, 3, 4, 4], 4, [3, 3, 3], edge),
        ([1, 3, 4, 5, 12], 33, [1, 1, 1], same([1; 3])),
        ([1, 5, 3, 4, 8], 8, [3, 1, 1], same([3, 1, 1])),
        ([1, 2, 9, 8, 8], 48, [1, 3, 3], same([1, 3, 3])),
        ([1, 1, 16, 16, 32], 64, [3, 3, 3], same([3; 3])),
    ];
    for format in FORMATS {
        for (dims, n, [kt, kh, kw], options) in &cases {
            let (w, b) = (weight(&[*n, dims[4], *kt, *kh, *kw], 5, format), weight(&[*n], 6, format));
            let graph = record(|plan| {
                let y = plan.input("x", dims, Cadence::Once).conv3d(&w, Some(&b), options);
                let residual = plan.input("r", y.shape().dims(), Cadence::Once);
                y + residual
            });
            assert_eq!(graph.steps.len(), 1, "the residual is an epilogue");
            assert_matches_twin(&graph, dims[4] * kt * kh * kw, &[]);
        }
    }
}

#[test]
fn a_causal_convolution_never_looks_ahead() {
    let options = Conv3dOptions { front: [2, 1, 1], back: [0, 1, 1], ..same([3; 3]) };
    let w = weight(&[8, 4, 3, 3, 3], 5, WeightFormat::F32);
    let run = |device: &Device, last: f32| {
        let graph = record(|plan| plan.input("x", &[1, 4, 3, 3, 4], Cadence::Once).conv3d(&w, None, &options));
        let mut exec = Executable::new(device, graph).expect("fits");
        let mut x = noise(144, 1);
        x[108..].fill(last);
        exec.write("x", &x).expect("declared");
        pollster::block_on(async {
            exec.run().await.expect("runs");
            exec.read("y").await.expect("declared")
        })
    };
    for device in devices() {
        let (a, b) = (run(device, 0.0), run(device, 9.0));
        assert_eq!(a[..216], b[..216], "frames before the changed one on {}", device.name());
        assert_ne!(a[216..], b[216..], "the changed frame on {}", device.name());
    }
}
