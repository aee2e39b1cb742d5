//! Many clips in one process: they stay the same, memory does not grow, and a cancelled one ends at once. A few here;
//! `KINORA_SOAK_MINUTES` goes on for as long (`cargo xtask soak`).

#[path = "../../kernels/tests/support/random.rs"]
mod random;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use kinora_kernels::AdapterSelect;
use kinora_runtime::{CancelToken, Device, Error, GenerateRequest, Generated, VideoPipeline, WeightFormat};
use random::Random;

/// From the word to the end, of 95 in 100 generations that are cancelled.
const SOON: Duration = Duration::from_millis(250);

/// How many times the bars for time a run may take: machines do other things meanwhile. `KINORA_TEST_SLOWNESS=1` enforces them.
fn slowness() -> u32 {
    std::env::var("KINORA_TEST_SLOWNESS").ok().map_or(4, |times| times.parse().expect("a number"))
}

/// How long to go on; `None` for a short run.
fn soak() -> Option<Duration> {
    let minutes = std::env::var("KINORA_SOAK_MINUTES").ok()?;
    Some(Duration::from_secs(60 * minutes.parse::<u64>().expect("minutes as a number")))
}

fn load() -> VideoPipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).expect("these tests need an adapter");
    VideoPipeline::load(device, &folder, WeightFormat::F16).expect("the tiny model loads")
}

fn generate(pipeline: &VideoPipeline, request: &GenerateRequest, cancel: &CancelToken) -> Result<Generated, Error> {
    pollster::block_on(pipeline.generate(request, cancel, &mut |_| {}))
}

/// Bytes that this process holds, where the system tells.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}

/// The slope of a line through values at 0, 1, 2 …, by least squares.
fn slope(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let over = values.iter().enumerate().map(|(x, y)| (x as f64 - mean_x) * (y - mean_y)).sum::<f64>();
    over / (0..values.len()).map(|x| (x as f64 - mean_x).powi(2)).sum::<f64>()
}

#[test]
fn models_come_and_go_without_a_trace() {
    let end = soak().map(|time| Instant::now() + time);
    let (mut first, mut sizes) = (None, Vec::new());
    for cycle in 0.. {
        if end.map_or(cycle == 4, |end| Instant::now() > end) {
            break;
        }
        let pipeline = load();
        let request = GenerateRequest { steps: 1, ..pipeline.request("water") };
        let clip = generate(&pipeline, &request, &CancelToken::default()).expect("generates");
        assert!(first.get_or_insert_with(|| clip.clone()) == &clip, "cycle {cycle} differs from the first");
        drop(pipeline);
        // What allocators and drivers keep for later has settled by then.
        if cycle >= 20 {
            sizes.extend(resident());
        }
    }
    if sizes.len() >= 100 {
        let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
        let growth = 100.0 * slope(&sizes) / mean;
        println!("{} cycles, {:.1} MiB held, {:+.3} % in 100 cycles", sizes.len() + 20, mean / 1_048_576.0, 100.0 * growth);
        assert!(growth <= 0.01, "it grows by {:.2} % in 100 cycles", 100.0 * growth);
    }
}

#[test]
fn cancelled_generations_end_soon_wherever_they_are() {
    let count = if soak().is_some() { 500 } else { 25 };
    let pipeline = load();
    let request = GenerateRequest { steps: 4, ..pipeline.request("water") };
    let whole = generate(&pipeline, &request, &CancelToken::default()).expect("generates");
    let begun = Instant::now();
    generate(&pipeline, &request, &CancelToken::default()).expect("generates");
    let length = begun.elapsed();
    let (mut waits, mut late) = (Vec::new(), 0);
    let mut random = Random(20_261_128);
    for _ in 0..count {
        // After one of the events, and up to a few steps later.
        let (at, wait) = (random.upto(6), length.mul_f64(random.below(1 << 16) as f64 / f64::from(1 << 20)));
        let token = CancelToken::default();
        let (end, said) = std::thread::scope(|scope| {
            let (mut seen, mut speaker) = (0, None);
            let on_event = &mut |_| {
                seen += 1;
                if seen == at {
                    let told = token.clone();
                    speaker = Some(scope.spawn(move || {
                        std::thread::sleep(wait);
                        told.cancel();
                        Instant::now()
                    }));
                }
            };
            let end = pollster::block_on(pipeline.generate(&request, &token, on_event));
            let ended = Instant::now();
            let spoken = speaker.map_or(ended, |speaker| speaker.join().expect("it only waits"));
            (end, ended.saturating_duration_since(spoken))
        });
        match end {
            Ok(clip) => {
                late += 1;
                assert!(clip == whole, "one that was done before has the same bits");
            }
            Err(error) => {
                assert_eq!(error.code(), "cancelled", "{error}");
                waits.push(said);
            }
        }
    }
    assert!(generate(&pipeline, &request, &CancelToken::default()).expect("generates") == whole, "and one that nobody cancels too");
    assert!(5 * waits.len() > count, "{late} of {count} were done before");
    waits.sort();
    let p95 = waits[(waits.len() * 95 / 100).min(waits.len() - 1)];
    println!("{} cancelled of {count}: 95 in 100 within {p95:.1?}, the last {:.1?}", waits.len(), waits[waits.len() - 1]);
    assert!(p95 <= SOON * slowness(), "95 in 100 end within {p95:?}");
}
