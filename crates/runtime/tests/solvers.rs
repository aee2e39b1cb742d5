//! Solvers against the classes of diffusers over a synthetic model: timesteps exact, trajectories to a millionth.

mod support;

use kinora_runtime::eval::eval;
use kinora_runtime::models::component::Component;
use kinora_runtime::sampling::schedule::{Levels, Table};
use kinora_runtime::sampling::solvers::table::{Row, Variance};
use kinora_runtime::sampling::solvers::{SOLVERS, SchedulerFile, Solver, by_name, is_of_file, of_file};
use kinora_runtime::weights::{Checkpoint, NewTensor, Values, to_bytes};
use serde_json::Value;
use support::{devices, golden};

fn floats(value: &Value) -> Option<Vec<f32>> {
    Some(value.as_array()?.iter().map(|v| v.as_f64().expect("a number") as f32).collect())
}

fn levels(arguments: &Value) -> Levels {
    match (floats(&arguments["sigmas"]), floats(&arguments["timesteps"])) {
        (Some(sigmas), _) => Levels::Sigmas(sigmas),
        (None, Some(timesteps)) => Levels::Timesteps(timesteps),
        (None, None) => Levels::Steps(arguments["num_inference_steps"].as_u64().expect("a count") as usize),
    }
}

fn file(config: &Value) -> SchedulerFile {
    SchedulerFile::from_json(config.to_string().as_bytes(), "scheduler_config.json").expect("a configuration")
}

#[test]
fn a_file_names_one_solver() {
    for entry in SOLVERS {
        let own = file(&serde_json::json!({ "_class_name": entry.class }));
        for other in SOLVERS {
            assert_eq!(is_of_file(other.name, &own), other.name == entry.name, "{} of {}", other.name, entry.class);
        }
    }
    assert!(is_of_file("euler", &file(&serde_json::json!({}))), "where none is named");
}

fn solver(run: &Value) -> Box<dyn Solver> {
    let solver = of_file(&file(&run["config"])).expect("a solver");
    match run["arguments"]["eta"].as_f64() {
        Some(eta) => solver.with_eta(eta).expect("a choice of noise"),
        None => solver,
    }
}

/// The state after a step, in double precision: what the kernel does with a row.
fn step(row: &Row, variance: Variance, x: &mut [f64], output: &[f64], history: &mut Vec<Vec<f64>>, noise: &[f64]) {
    let mut cleans = Vec::new();
    for (i, x) in x.iter_mut().enumerate() {
        let [of_x, of_output] = row.clean_of;
        let clean = (of_x * *x + of_output * output[i]).clamp(-row.limit, row.limit);
        let past: f64 = row.history.iter().zip(&*history).map(|(factor, clean)| factor * clean[i]).sum();
        let amplitude = match variance {
            Variance::Fixed => 1.0,
            Variance::Learned => output[noise.len() + i].sqrt(),
            Variance::Range => (row.log_amplitude[0] * output[noise.len() + i] + row.log_amplitude[1]).exp(),
        };
        *x = row.x * *x + row.output * output[i] + row.clean * clean + past + row.noise * amplitude * noise[i];
        cleans.push(clean);
    }
    history.insert(0, cleans);
}

#[test]
fn trajectories_match_the_reference() {
    let folder = golden().join("solver");
    let json = std::fs::read_to_string(folder.join("cases.json")).expect("the description of the cases");
    let cases: Value = serde_json::from_str(&json).expect("JSON");
    let given = Checkpoint::open(folder.join("inputs.safetensors")).expect("inputs");
    let input = |name: &str| given.get(name).expect("an input").to_f32().into_iter().map(f64::from).collect::<Vec<_>>();
    let (w, noise, variance) = (input("w"), input("noise"), input("variance"));
    let coefficients = input("coefficients");
    let mut wrong = Vec::new();
    for (name, run) in cases.as_object().expect("cases") {
        let solver = solver(run);
        let schedule = solver.schedule(&levels(&run["arguments"]), run["arguments"]["mu"].as_f64()).expect("a schedule");
        let expected = Checkpoint::open(folder.join(format!("expected_{name}.safetensors"))).expect("results");
        let expect = |tensor: &str| expected.get(tensor).expect("a result").to_f32();
        let timesteps = expect("timesteps");
        // PyTorch's logarithm in single precision is not always the nearest number.
        let logarithms = run["config"]["timestep_type"] == "continuous";
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= if logarithms { b.abs() * f32::EPSILON } else { 0.0 };
        if schedule.timesteps.len() != timesteps.len() || !schedule.timesteps.iter().zip(&timesteps).all(near) {
            wrong.push(format!("{name}: timesteps {:?}, not {timesteps:?}", schedule.timesteps));
            continue;
        }
        let (found, table): (Vec<f32>, _) = match &schedule.table {
            Table::Sigmas(sigmas) => (sigmas.clone(), "sigmas"),
            Table::Products(products) => (products.iter().copied().step_by(111).collect(), "alphas_cumprod"),
        };
        let difference = |(a, b): (&f32, &f32)| f64::from((a - b).abs() / b.abs().max(1e-3));
        let table_error = found.iter().zip(&expect(table)).map(difference).fold(0.0, f64::max);

        let trajectory = expect("trajectory");
        let scale = trajectory.iter().fold(1.0_f32, |most, v| most.max(v.abs()));
        let mut states = trajectory.chunks_exact(w.len());
        let start = states.next().expect("the sample").iter().zip(std::iter::repeat(schedule.scales[0]));
        let mut x: Vec<f64> = start.map(|(v, scale)| f64::from(*v) / scale).collect();
        let (mut history, mut error) = (Vec::new(), 0.0_f64);
        for (i, (row, state)) in solver.rows(&schedule.intervals).iter().zip(states.by_ref()).enumerate() {
            let sine = f64::from(schedule.timesteps[i]).sin();
            let mut output: Vec<f64> =
                x.iter().zip(&w).map(|(x, w)| coefficients[0] * x + coefficients[1] * sine + coefficients[2] * w).collect();
            output.extend(&variance);
            step(row, solver.variance(), &mut x, &output, &mut history, &noise[i * w.len()..][..w.len()]);
            assert!(solver.takes_noise() || row.noise == 0.0, "{name}: announces its noise");
            assert!(row.history[solver.history()..].iter().all(|h| *h == 0.0), "{name}: announces its history");
            for (found, expected) in x.iter().zip(state) {
                let far = (found * schedule.scales[i + 1] - f64::from(*expected)).abs() / f64::from(scale);
                // Unlike `max`, this keeps NaN.
                error = if far <= error { error } else { far };
            }
        }
        println!("{name}: levels {table_error:.1e}, trajectory {error:.1e}");
        if !(error <= 1e-6 && table_error <= 1e-6 && states.next().is_none()) {
            wrong.push(format!("{name}: levels {table_error:.1e}, trajectory {error:.1e}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The inputs of `kinora eval --op loop` for a case.
fn loop_inputs(folder: &std::path::Path, run: &Value, start: &[f32], steps: usize) -> Checkpoint {
    let given = Checkpoint::open(folder.join("inputs.safetensors")).expect("inputs");
    let mut tensors: Vec<(&str, Vec<usize>, Vec<f32>)> = Vec::new();
    for name in ["coefficients", "w", "variance", "noise"] {
        let view = given.get(name).expect("an input");
        let shape = view.shape.to_vec();
        tensors.push((name, shape, view.to_f32()));
    }
    let noise = tensors.last_mut().expect("four inputs");
    noise.2.truncate(noise.2.len() / noise.1[0] * steps);
    noise.1[0] = steps;
    tensors.push(("sample", tensors[1].1.clone(), start.to_vec()));
    for name in ["sigmas", "timesteps"] {
        tensors.extend(floats(&run["arguments"][name]).map(|values| (name, vec![values.len()], values)));
    }
    tensors.extend(["mu", "eta"].into_iter().filter_map(|name| Some((name, vec![1], vec![run["arguments"][name].as_f64()? as f32]))));
    let count = [steps as i64];
    let floats = tensors.iter().map(|(name, shape, values)| NewTensor { name, shape, values: Values::F32(values) });
    let all: Vec<_> = floats.chain([NewTensor { name: "num_inference_steps", shape: &[1], values: Values::I64(&count) }]).collect();
    Checkpoint::from_files("inputs", vec![("inputs.safetensors".into(), to_bytes(&all).expect("tensors"))]).expect("a file")
}

#[test]
fn loops_of_the_kernel_match_the_reference() {
    let folder = golden().join("solver");
    let json = std::fs::read_to_string(folder.join("cases.json")).expect("the description of the cases");
    let cases: Value = serde_json::from_str(&json).expect("JSON");
    for (name, run) in cases.as_object().expect("cases") {
        let expected = Checkpoint::open(folder.join(format!("expected_{name}.safetensors"))).expect("results");
        let trajectory = expected.get("trajectory").expect("a trajectory");
        let (steps, values) = (trajectory.shape[0] - 1, trajectory.to_f32());
        let inputs = loop_inputs(&folder, run, &values[..values.len() / (steps + 1)], steps);
        let component = Component::Scheduler(of_file(&file(&run["config"])).expect("a solver"));
        let scale = values.iter().fold(1.0_f32, |most, v| most.max(v.abs()));
        for (device_name, device, _) in devices() {
            let outputs = pollster::block_on(eval(&component, "loop", &inputs, device)).expect("runs");
            let found = outputs.iter().find(|output| output.name == "trajectory").expect("a trajectory");
            assert_eq!(found.shape, trajectory.shape, "{name} on {device_name}");
            let error =
                found.values.iter().zip(&values).fold(0.0_f32, |most, (a, b)| if (a - b).abs() <= most { most } else { (a - b).abs() })
                    / scale;
            println!("{name} on {device_name}: {error:.1e}");
            assert!(error <= 1e-6, "{name} on {device_name}: {error:.1e}");
            let last = outputs.iter().find(|output| output.name == "final").expect("the last sample");
            assert_eq!(last.values, found.values[found.values.len() - last.values.len()..], "{name} on {device_name}");
        }
    }
}

#[test]
fn every_solver_of_the_registry_has_a_case() {
    let json = std::fs::read_to_string(golden().join("solver/cases.json")).expect("the description of the cases");
    for entry in SOLVERS {
        assert!(json.contains(&format!("\"_class_name\": \"{}\"", entry.class)), "{} is compared with its reference", entry.class);
    }
}

#[test]
fn schedules_begin_and_end_where_their_classes_do() {
    let of = |config: Value| of_file(&file(&config)).expect("a solver");
    // As `DPMSolverMultistepScheduler` has them: fewer than asked for where the noisiest levels are left out.
    let clipped = of(serde_json::json!({
        "_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -2.0,
        "timestep_spacing": "trailing",
    }));
    let timesteps = |steps| clipped.schedule(&Levels::Steps(steps), None).expect("a schedule").timesteps;
    assert_eq!(timesteps(9), [912.0, 801.0, 690.0, 579.0, 468.0, 356.0, 245.0, 134.0, 23.0]);
    assert_eq!((timesteps(20).len(), timesteps(20)[18]), (19, 12.0));
    // What unit noise is multiplied with: the first level, but for `leading`.
    for (spacing, leads) in [("linspace", false), ("trailing", false), ("leading", true)] {
        let euler = of(serde_json::json!({ "_class_name": "EulerDiscreteScheduler", "timestep_spacing": spacing }));
        let schedule = euler.schedule(&Levels::Steps(5), None).expect("a schedule");
        let first = schedule.intervals[0].from.sigma;
        assert!((schedule.start - if leads { 1.0 } else { first }).abs() < 1e-12, "{spacing}: {} of {first}", schedule.start);
        let [last, beyond] = [999.0, 999.5].map(|t| euler.schedule(&Levels::Timesteps(vec![t, 1.0]), None));
        assert!(last.is_ok(), "{spacing}: the last timestep");
        let error = beyond.expect_err("beyond the last").to_string();
        assert!(error.contains("numbers from 0 to 999"), "{error}");
    }
}

#[test]
fn names_choose_among_the_solvers_that_suit_a_model() {
    let flow = file(&serde_json::json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0 }));
    let wan = file(&serde_json::json!({
        "_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0
    }));
    let diffusion = file(&serde_json::json!({ "_class_name": "DDIMScheduler", "prediction_type": "v_prediction" }));
    for file in [&flow, &wan] {
        let schedule = by_name("unipc", file).and_then(|s| s.schedule(&Levels::Steps(4), None)).expect("valid");
        assert_eq!(schedule.timesteps, [999.0, 900.0, 750.0, 500.0], "the shift is that of the model");
    }
    let found = format!("{:?}", by_name("euler", &diffusion).expect("Euler's steps in diffusion"));
    assert!(found.starts_with("Euler"), "{found}");
    for (name, file) in [("ddim", &flow), ("dmd", &diffusion), ("heun", &flow)] {
        assert_eq!(by_name(name, file).map_err(|e| e.code()).err(), Some("invalid-request"), "{name}");
    }
}

#[test]
fn impossible_configurations_are_refused() {
    let code = |config: Value| {
        let file = SchedulerFile::from_json(config.to_string().as_bytes(), "x");
        file.and_then(|file| of_file(&file)).map_or_else(|e| e.code(), |_| "ok")
    };
    assert_eq!(code(serde_json::json!({ "_class_name": "PNDMScheduler" })), "unknown-class", "a class without a solver");
    for config in [
        serde_json::json!({ "_class_name": "DDIMScheduler", "thresholding": true }),
        serde_json::json!({ "_class_name": "DDIMScheduler", "beta_schedule": "laplace" }),
        serde_json::json!({ "_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true }),
        serde_json::json!({ "_class_name": "DDIMScheduler", "prediction_type": "score" }),
        serde_json::json!({ "_class_name": "DDPMScheduler", "variance_type": "guessed" }),
        serde_json::json!({ "_class_name": "DDPMScheduler", "trained_betas": [0.1, 0.2] }),
        serde_json::json!({ "_class_name": "DDPMScheduler", "num_train_timesteps": 0 }),
        serde_json::json!({ "_class_name": "UniPCMultistepScheduler", "predict_x0": false }),
        serde_json::json!({ "_class_name": "UniPCMultistepScheduler", "solver_order": 4 }),
        serde_json::json!({ "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver" }),
        serde_json::json!({ "_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true, "use_beta_sigmas": true }),
        serde_json::json!({ "_class_name": "FlowMapEulerDiscreteScheduler", "shift": 0.0 }),
    ] {
        assert_eq!(code(config.clone()), "invalid-config", "{config}");
    }
    let unbounded = br#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}"#;
    assert!(SchedulerFile::from_json(unbounded, "x").is_ok(), "as Python writes it");
}
