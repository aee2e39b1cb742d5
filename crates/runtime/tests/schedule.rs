//! The noise schedule against the reference's tables and steps.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may panic, and tables are f32")]

use std::fs;
use std::path::PathBuf;

use kinora_runtime::sampling::schedule::{Levels, Schedule};
use kinora_runtime::sampling::solvers::{SchedulerFile, Solver, of_file};
use kinora_runtime::weights::Checkpoint;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/scheduler").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn floats(value: &Value) -> Option<Vec<f32>> {
    Some(value.as_array()?.iter().map(|v| v.as_f64().unwrap() as f32).collect())
}

fn solver(json: &[u8]) -> kinora_runtime::Result<Box<dyn Solver>> {
    of_file(&SchedulerFile::from_json(json, "scheduler_config.json")?)
}

fn schedule(row: &Value) -> Schedule {
    let config = solver(row["config"].to_string().as_bytes()).unwrap();
    let arguments = &row["arguments"];
    let levels = match (floats(&arguments["sigmas"]), floats(&arguments["timesteps"])) {
        (Some(s), Some(t)) => Levels::SigmasAndTimesteps(s, t),
        (Some(s), None) => Levels::Sigmas(s),
        (None, Some(t)) => Levels::Timesteps(t),
        (None, None) => Levels::Steps(arguments["num_inference_steps"].as_u64().unwrap() as usize),
    };
    config.schedule(&levels, arguments["mu"].as_f64()).unwrap()
}

#[test]
fn tables_match_the_reference() {
    let rows = json("tables.json");
    let mut exact = 0;
    for row in rows.as_array().unwrap() {
        let name = &row["name"];
        let found = schedule(row);
        for (what, found, unit) in [("sigmas", &found.sigmas, 1.0), ("timesteps", &found.timesteps, 1000.0)] {
            let expected = floats(&row[what]).unwrap();
            assert_eq!(found.len(), expected.len(), "{name} {what}");
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() <= 1e-6 * unit, "{name} {what}: found {f}, expected {e}");
            }
            exact += usize::from(*found == expected);
        }
    }
    assert_eq!(exact, 46, "every table is bit-identical, not just close");
}

#[test]
fn euler_steps_match_the_reference() {
    let described = json("steps.json");
    let (schedule, euler) = (schedule(&described), solver(described["config"].to_string().as_bytes()).unwrap());
    for case in ["euler", "per_token"] {
        let inputs = Checkpoint::open(golden(&format!("inputs_{case}.safetensors"))).unwrap();
        let expected = Checkpoint::open(golden(&format!("expected_{case}.safetensors"))).unwrap();
        let mut x = inputs.get("sample").unwrap().to_f32();
        let (channels, outputs) = (4, inputs.get("model_outputs").unwrap().to_f32());
        for (step, velocity) in outputs.chunks(x.len()).enumerate() {
            // Tokens of their own timestep are clean here, and stay.
            let timesteps = inputs.get(&format!("per_token_timesteps_{step}")).map(|t| t.to_f32());
            let given = |token: usize| timesteps.as_ref().is_ok_and(|t| t[token] == 0.0);
            assert_eq!(schedule.clamped(0).1, [], "what is clean has no steps");
            // The reference is called with the same outputs in both cases, and its per-token step
            // has the opposite sign.
            let sign = if case == "euler" { 1.0 } else { -1.0 };
            let dt = euler.rows(&schedule.clamped(1000).1)[step].output as f32;
            for (i, (x, v)) in x.iter_mut().zip(velocity).enumerate() {
                *x += if given(i / channels) { 0.0 } else { sign * dt * v };
            }
            let name = format!("sample_{}", step + 1);
            assert_eq!(x, expected.get(&name).unwrap().to_f32(), "{case} {name}");
        }
    }
}

#[test]
fn the_dynamic_shift_is_a_line() {
    let ltx = br#"{"use_dynamic_shifting":true,"base_shift":0.95,"max_shift":2.05,"base_image_seq_len":1024}"#;
    let config = solver(ltx).unwrap();
    assert!((config.mu(1024).unwrap() - 0.95).abs() < 1e-12, "at the base length");
    assert!((config.mu(4096).unwrap() - 2.05).abs() < 1e-12, "at the maximal length");
    assert_eq!(solver(b"{}").unwrap().mu(1024), None, "no dynamic shifting, no mu");
}

#[test]
fn a_token_at_the_level_of_a_step_takes_the_step_as_it_is() {
    let levels = Levels::SigmasAndTimesteps(vec![0.75, 0.5], vec![700.0, 400.0]);
    let schedule = solver(b"{}").unwrap().schedule(&levels, None).unwrap();
    let steps = |noise| schedule.clamped(noise).1.iter().map(|step| step.timestep).collect::<Vec<_>>();
    assert_eq!(steps(500), [400.0], "its own level says 500");
    assert_eq!(steps(499), [499.0], "a little below it");
    assert_eq!(steps(750), [700.0, 400.0], "the first");
    assert_eq!(steps(1000), [700.0, 400.0], "noisier than the schedule");
}

#[test]
fn impossible_configurations_and_requests_are_refused() {
    let code = |json: &str| solver(json.as_bytes()).map_or_else(|e| e.code(), |_| "ok");
    assert_eq!(code(r#"{"_diffusers_version":"1","unknown":3}"#), "ok", "fields of other versions are ignored");
    for json in [
        "[",
        r#"{"time_shift_type":"cubic"}"#,
        r#"{"use_beta_sigmas":true,"use_karras_sigmas":true}"#,
        r#"{"num_train_timesteps":0}"#,
        r#"{"shift":-1}"#,
        r#"{"shift_terminal":1.0}"#,
    ] {
        assert_eq!(code(json), "invalid-config", "{json}");
    }
    let [plain, dynamic, ending] =
        [r"{}", r#"{"use_dynamic_shifting":true}"#, r#"{"shift_terminal":0.1}"#].map(|json| solver(json.as_bytes()).unwrap());
    for (config, levels) in [
        (&plain, Levels::Steps(0)),
        (&plain, Levels::Steps(usize::MAX)),
        (&plain, Levels::Sigmas(vec![1.0, f32::NAN])),
        (&plain, Levels::Sigmas(vec![1.5])),
        (&plain, Levels::Timesteps(vec![1001.0])),
        (&plain, Levels::SigmasAndTimesteps(vec![1.0], vec![1.0, 2.0])),
        (&dynamic, Levels::Steps(4)),
        (&ending, Levels::Steps(1)),
    ] {
        assert_eq!(config.schedule(&levels, None).unwrap_err().code(), "invalid-request", "{levels:?}");
    }
}
