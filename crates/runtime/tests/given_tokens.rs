//! Solvers on clips of which some tokens are given at other levels of noise: each token against a reference that follows it alone.

mod support;

use kinora_kernels::{CancelToken, Plan, Tensor};
use kinora_runtime::Result;
use kinora_runtime::eval::{Evaluation, Inputs};
use kinora_runtime::executables::Executables;
use kinora_runtime::models::family::{Call, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Spacing, Table};
use kinora_runtime::sampling::denoise::{Denoise, Expert, Sequence};
use kinora_runtime::sampling::guidance::Guidance;
use kinora_runtime::sampling::noise::normal;
use kinora_runtime::sampling::schedule::{self, Levels, Schedule};
use kinora_runtime::sampling::solvers::table::{Interval, Point, Row};
use kinora_runtime::sampling::solvers::{SchedulerFile, Solver, of_file};
use serde_json::{Value, json};
use support::devices;

/// Features of a token.
const C: usize = 4;
/// Predicts a·x + sin(t)·w.
const A: f64 = 0.3;
const W: [f32; C] = [0.5, -0.8, 0.2, 1.1];

struct Synthetic;

impl Evaluate for Synthetic {
    fn operations(&self) -> &'static [&'static str] {
        &[]
    }

    fn evaluate(&self, _: &str, _: &Inputs<'_>) -> Result<Evaluation> {
        unreachable!("it has no operations")
    }
}

impl Denoiser for Synthetic {
    fn packing(&self) -> [usize; 3] {
        [1; 3]
    }

    fn latent_channels(&self) -> usize {
        C
    }

    fn text_channels(&self) -> usize {
        C
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["c", "c"]
    }

    fn noise_levels(&self) -> NoiseLevels {
        NoiseLevels::PerToken
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        let values = call.timesteps.iter().flat_map(|t| W.map(|w| f64::from(*t).sin() as f32 * w)).collect();
        vec![Table { name: "sine", shape: vec![call.timesteps.len(), C], values }]
    }

    fn record<'p>(&self, _: &'p Plan, _: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        inputs.tokens.affine(A as f32, 0.0) + inputs.table("sine").gather_rows(inputs.timestep_index)
    }

    fn first_block(&self) -> &'static str {
        "none"
    }
}

/// The level of `thousandths` of noise and what the model is told of it, by the definition of the two kinds of schedules.
fn level(schedule: &Schedule, thousandths: u16) -> (Point, f32) {
    match &schedule.table {
        schedule::Table::Sigmas(_) => (Point::flow(f64::from(thousandths) / 1000.0), f32::from(thousandths)),
        schedule::Table::Products(products) => {
            let timestep = usize::from(thousandths) * products.len() / 1000 - 1;
            (Point::of_product(f64::from(products[timestep])), timestep as f32)
        }
    }
}

/// The steps of a token of so much noise: those of the schedule that begin below its level, after one from that level itself.
fn own_steps(schedule: &Schedule, thousandths: u16) -> (usize, Vec<Interval>) {
    let (own, timestep) = level(schedule, thousandths);
    if thousandths == 1000 {
        return (0, schedule.intervals.clone());
    }
    let noise = |point: Point| point.sigma / point.alpha.max(1e-300);
    let waits = schedule.intervals.iter().take_while(|interval| noise(interval.to) >= noise(own)).count();
    let mut steps = schedule.intervals[waits..].to_vec();
    if let Some(first) = steps.first_mut()
        && noise(own) < noise(first.from)
    {
        (first.from, first.timestep) = (own, timestep);
    }
    (waits, steps)
}

/// Where one token ends: the solver's rows in double precision, as if it were alone in the world.
fn alone(schedule: &Schedule, solver: &dyn Solver, thousandths: u16, start: &[f32], fresh: impl Fn(usize) -> Vec<f32>) -> Vec<f64> {
    let (waits, steps) = own_steps(schedule, thousandths);
    let mut x: Vec<f64> = start.iter().map(|v| f64::from(*v)).collect();
    let mut past: Vec<Vec<f64>> = Vec::new();
    for (own, (interval, row)) in steps.iter().zip(solver.rows(&steps)).enumerate() {
        let noise = fresh(waits + own);
        let Row { x: of_x, output: of_output, clean: of_clean, .. } = row;
        let output: Vec<f64> = x.iter().zip(W).map(|(x, w)| A * x + f64::from(interval.timestep).sin() * f64::from(w)).collect();
        let clean: Vec<f64> =
            x.iter().zip(&output).map(|(x, o)| (row.clean_of[0] * x + row.clean_of[1] * o).clamp(-row.limit, row.limit)).collect();
        for (c, x) in x.iter_mut().enumerate() {
            let earlier: f64 = row.history.iter().zip(&past).map(|(factor, clean)| factor * clean[c]).sum();
            *x = of_x * *x + of_output * output[c] + of_clean * clean[c] + earlier + row.noise * f64::from(noise[c]);
        }
        past.insert(0, clean);
    }
    x
}

/// Clean, from the middle of an interval, from between others, and pure noise.
const NOISE: [u16; 6] = [1000, 100, 450, 1000, 731, 900];

#[test]
fn every_token_goes_its_own_way() {
    let flow =
        |class: &str| json!({ "_class_name": class, "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0 });
    let velocity = |class: &str| json!({ "_class_name": class, "prediction_type": "v_prediction", "timestep_spacing": "trailing" });
    let cases: [(&str, Value, Option<f64>); 8] = [
        ("euler", json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0 }), None),
        ("unipc", flow("UniPCMultistepScheduler"), None),
        ("dpm++", flow("DPMSolverMultistepScheduler"), None),
        ("dmd", json!({ "_class_name": "DMDScheduler", "shift": 3.0 }), None),
        ("ddim", velocity("DDIMScheduler"), Some(0.7)),
        ("ddpm", velocity("DDPMScheduler"), None),
        ("dpm-cogvideox", velocity("CogVideoXDPMScheduler"), None),
        ("lcm", velocity("LCMScheduler"), None),
    ];
    for (name, config, eta) in cases {
        let file = SchedulerFile::from_json(config.to_string().as_bytes(), name).expect("a configuration");
        let solver = of_file(&file).expect("a solver");
        let solver = eta.and_then(|eta| solver.with_eta(eta)).unwrap_or(solver);
        let schedule = solver.schedule(&Levels::Steps(6), None).expect("a schedule");
        // Other tokens in another order, and other noise, in a second clip of the same run.
        let reversed: Vec<u16> = NOISE.iter().rev().copied().collect();
        let clips = [(NOISE.as_slice(), 5_u64), (reversed.as_slice(), 11)];
        let text = [0.0; C];
        let sequences = clips.map(|(noise, seed)| Sequence {
            prompt: &text,
            negative: None,
            guidance: Guidance::from(1.0),
            schedule: &schedule,
            solver: solver.as_ref(),
            seed,
            grid: [NOISE.len(), 1, 1],
            beside: &[],
            noise,
            features: &[],
            pictures: &[],
        });
        let tokens = normal(3, 0, 2 * NOISE.len() * C);
        let fresh = |seed: u64, token: usize, step: usize| {
            let all = normal(seed, 1 << 32 | step as u64, NOISE.len() * C);
            all[token * C..][..C].to_vec()
        };
        let own = |(row, start): (usize, &[f32])| {
            let (noise, seed) = clips[row / NOISE.len()];
            let token = row % NOISE.len();
            alone(&schedule, solver.as_ref(), noise[token], start, |step| fresh(seed, token, step))
        };
        let expected: Vec<f64> = tokens.chunks_exact(C).enumerate().flat_map(own).collect();
        let scale = expected.iter().chain([&1.0]).fold(0.0_f64, |most, v| most.max(v.abs()));
        let experts = [Expert { denoiser: Box::new(Synthetic), lowest_timestep: f32::NEG_INFINITY }];
        let spacing = Spacing { latent: [1.0; 3], frames: 1 };
        let denoise = Denoise {
            experts: &experts,
            sequences: &sequences,
            spacing,
            guided_channels: C,
            conditioning_scale: None,
            step_cache: None,
            predict_every: 0,
        };
        for (device_name, device, _) in devices() {
            let runner = (device, &Executables::default());
            let found = pollster::block_on(denoise.run(runner, &tokens, &CancelToken::default(), &mut async |_| Ok(()))).expect("runs");
            let found: Vec<f32> = found.into_iter().flat_map(|clip| clip.expect("finite")).collect();
            let far = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs() / scale);
            // Unlike `max`, this keeps NaN.
            let error = far.fold(0.0, |most, far| if far <= most { most } else { far });
            println!("{name} on {device_name}: {error:.1e}");
            assert!(found.len() == expected.len() && error <= 1e-6, "{name} on {device_name}: {error:.1e}");
        }
    }
}
