//! Any call to the graphics API fails, once or from there on: a generation ends with an error of a kind or is made as ever, and the
//! next one on the same device has the same bits and leaves nothing behind. `KINORA_FAULTS=all` tries every call
//! (`cargo xtask faults`), otherwise a few of each kind are picked.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kinora_kernels::{AdapterSelect, Fault, FaultPlan, Gpu, LiveObjects};
use kinora_runtime::conditioning::Conditioning;
use kinora_runtime::{CancelToken, Device, Error, GenerateRequest, Generated, VideoPipeline, WeightFormat};

/// A generation may take so long, failing or not.
const LONGEST: Duration = Duration::from_secs(5);

/// Faults of each kind and request where not all are tried.
const PICKED: u64 = 4;

/// How many times the bars for time a run may take: machines do other things meanwhile. `KINORA_TEST_SLOWNESS=1` enforces them.
fn slowness() -> u32 {
    std::env::var("KINORA_TEST_SLOWNESS").ok().map_or(4, |times| times.parse().expect("a number"))
}

fn open() -> Arc<Gpu> {
    Arc::new(pollster::block_on(Gpu::open(&AdapterSelect::Auto, None)).expect("these tests need an adapter"))
}

/// A model on a device, and what it makes there.
struct Bench {
    pipeline: VideoPipeline,
    request: GenerateRequest,
    gpu: Arc<Gpu>,
}

impl Bench {
    /// A clip of text, or one that begins with a picture and gets so little memory that weights are streamed.
    fn new(given: bool) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
        let gpu = open();
        let mut pipeline = VideoPipeline::load(Device::Gpu(gpu.clone()), &folder, WeightFormat::F32).expect("the tiny model loads");
        let mut request = GenerateRequest { width: 32, height: 32, frames: 5, steps: 2, preview_every: 1, ..pipeline.request("water") };
        if given {
            let picture = (0..32 * 32 * 4).map(|at| at as u8 | 3).collect();
            let latents = 1 + (request.frames - 1) / pipeline.compression().latent[0];
            request.conditioning = Conditioning::new(vec![vec![picture]], support::images_at(latents, &[0]));
            let whole = pipeline.requirements(&request).expect("possible").device_bytes;
            let fits = |percent: &u64| {
                pipeline.set_memory(Some(whole * percent / 100));
                pipeline.requirements(&request).is_ok()
            };
            let least = (50..100).step_by(5).find(fits).expect("some of it is weights");
            pipeline.set_memory(Some(whole * least / 100));
        }
        Self { pipeline, request, gpu }
    }

    /// A clip whose text is encoded, as if it were the first of it.
    fn generate(&self) -> Result<Generated, Error> {
        self.pipeline.forget_texts();
        pollster::block_on(self.pipeline.generate(&self.request, &CancelToken::default(), &mut |_| {}))
    }

    /// A generation in which nothing fails, with whatever the last one has left: the clip, and what is there afterwards. Pipelines
    /// are not counted: those that were compiled before the fault live as long as the plans that use them.
    fn clean(&self) -> (Generated, (u64, LiveObjects)) {
        self.gpu.plan_fault(None);
        let clip = self.generate().expect("nothing fails");
        (clip, (self.gpu.memory().live, LiveObjects { pipelines: 0, ..self.gpu.live_objects() }))
    }

    /// Drops all that is kept for later and returns what is there all the same.
    fn forget(&mut self) -> (u64, LiveObjects) {
        self.pipeline.set_device(Device::Gpu(self.gpu.clone()));
        self.gpu.forget_all();
        (self.gpu.memory().live, self.gpu.live_objects())
    }

    /// The device of the pipeline, which may be another than before.
    fn follow(&mut self) {
        let Device::Gpu(gpu) = self.pipeline.device() else { panic!("it runs on a GPU") };
        self.gpu = gpu;
    }
}

/// Tries faults of a kind and returns how often a generation ended in which way.
fn try_faults(fault: Fault, sticky: bool, given: bool, trying: &mpsc::Sender<String>) -> BTreeMap<String, usize> {
    let mut bench = Bench::new(given);
    let empty = bench.forget();
    let (expected, baseline) = bench.clean();
    let calls = bench.gpu.calls().0;
    assert!(calls > 100, "{calls} calls");
    let wanted = std::env::var("KINORA_FAULTS").ok();
    let count = wanted.as_ref().map_or(PICKED, |wanted| wanted.parse().unwrap_or(calls));
    // Odd steps from different places reach all parts of a generation.
    let picked: Vec<u64> =
        if count >= calls { (0..calls).collect() } else { (0..count).map(|i| (i * calls / count + 7 * i) % calls).collect() };
    let mut ends = BTreeMap::new();
    let (all, first) = (picked.len(), Instant::now());
    for (tried, call) in picked.into_iter().enumerate() {
        if tried > 0 && tried % 100 == 0 {
            println!("{tried} of {all} in {:.0} s: {ends:?}", first.elapsed().as_secs_f64());
        }
        let plan = FaultPlan { call, fault, sticky };
        trying.send(format!("{plan:?}")).expect("somebody watches");
        assert_eq!(bench.forget(), empty, "before {plan:?}: something cannot be dropped");
        bench.gpu.plan_fault(Some(plan));
        let begun = Instant::now();
        let end = bench.generate();
        let seconds = begun.elapsed();
        assert!(bench.gpu.calls().1 > 0, "{plan:?}: nothing failed");
        assert!(seconds < LONGEST * slowness(), "{plan:?}: {seconds:?}");
        let end = match end {
            Ok(clip) => {
                assert!(clip == expected, "{plan:?}: another clip");
                "made".to_owned()
            }
            Err(error) if fault == Fault::Lost && !sticky => panic!("{plan:?}: {error}"),
            Err(error) => {
                let code = error.code();
                let own = if fault == Fault::Lost { &["device-lost"][..] } else { &["device", "out-of-memory"] };
                assert!(own.contains(&code), "{plan:?}: {code}: {error}");
                code.to_owned()
            }
        };
        *ends.entry(end).or_default() += 1;
        bench.gpu.plan_fault(None);
        bench.follow();
        if fault == Fault::Lost && sticky {
            bench.gpu = open();
            bench.forget();
        }
        trying.send(format!("{plan:?}, and none afterwards")).expect("somebody watches");
        let (clip, left) = bench.clean();
        assert!(clip == expected, "{plan:?}: other bits afterwards");
        assert_eq!(left, baseline, "{plan:?}: something is left behind");
    }
    assert_eq!(bench.forget(), empty, "something cannot be dropped");
    ends
}

/// Runs it on a thread of its own, so that a hang is a failure.
fn watched(fault: Fault, sticky: bool) {
    let (trying, heard) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let mut ends = try_faults(fault, sticky, false, &trying);
        for (end, count) in try_faults(fault, sticky, true, &trying) {
            *ends.entry(end).or_default() += count;
        }
        ends
    });
    let mut last = String::from("a clean run");
    loop {
        match heard.recv_timeout(10 * LONGEST * slowness()) {
            Ok(now) => last = now,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs: {last}"),
        }
    }
    let begun = format!("{fault:?}{}", if sticky { " from there on" } else { "" });
    let ends = worker.join().unwrap_or_else(|_| panic!("after {last}"));
    println!("{begun}: {} faults, {ends:?}", ends.values().sum::<usize>());
}

#[test]
fn a_call_is_refused() {
    watched(Fault::Refused, false);
}

#[test]
fn calls_are_refused_from_there_on() {
    watched(Fault::Refused, true);
}

#[test]
fn a_clip_survives_the_loss_of_its_device() {
    watched(Fault::Lost, false);
}

#[test]
fn a_device_that_is_lost_over_and_over_is_given_up() {
    watched(Fault::Lost, true);
}
