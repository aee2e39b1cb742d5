//! What a kernel asks of a GPU, counted by running its naga module lane by lane, and the share of the multiply-add rate that
//! this leaves. For kernels that no GPU is at hand for; how the counting is checked is in `instrumented.rs`.
//!
//! The bound is that of a multiprocessor which issues 4 instructions of 32 lanes each per clock, multiplies and adds in all of
//! them, serves 128 bytes of workgroup memory per clock to 8 lanes of 16 bytes each at a time, and 16 roots or exponentials.
//! Waiting for memory is not in it: it supposes enough workgroups at work.

mod arithmetic;
mod instrumented;
mod machine;
mod program;
mod value;

use std::collections::HashMap;

use machine::{Access, Buffers, CLASSES, Class, Lane, Machine};
use program::Program;

use crate::kernel::Access as Use;
use crate::lower::{Binding, Dispatch};
use crate::op::Padding;
use crate::ops::lower;
use crate::{AttentionOptions, Cadence, Conv3dOptions, Graph, Plan, Preset, Shape, Weight, WeightFormat};

/// Lanes that run the same instruction at once.
const LANES: u32 = 32;

/// What the first 32 lanes of a kernel's first workgroup do.
struct Counted {
    name: &'static str,
    /// Instructions of these lanes together.
    counts: [u64; CLASSES],
    /// 128-byte parts of workgroup memory that are read or written for them, and as many if no two lanes met a bank.
    wavefronts: [u64; 2],
    /// Bytes that these lanes load from buffers.
    loaded: u64,
    registers: u64,
}

/// The integers of a dispatch's buffers by binding.
fn buffers(dispatch: &Dispatch) -> Buffers {
    let words = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, u32>(bytes);
    let data = dispatch.bindings.iter().enumerate().filter_map(|(at, binding)| match binding {
        Binding::Data(data) => Some((at as u32 + 1, data.clone())),
        _ => None,
    });
    data.chain([(0, words(&dispatch.params))]).collect()
}

fn count(dispatch: &Dispatch) -> Counted {
    let program = Program::parse(&dispatch.kernel.source());
    let buffers = buffers(dispatch);
    let lanes: Vec<Machine<'_>> =
        (0..LANES).map(|lane| Machine::run(&program, &buffers, Lane { lane, group: [0; 3], groups: [dispatch.items, 1, 1] })).collect();
    // A lane that does less waits for the others.
    let counts = std::array::from_fn(|class| lanes.iter().map(|lane| lane.counts[class]).max().unwrap_or(0));
    let mut together: HashMap<Access, Vec<(u32, u32, u32)>> = HashMap::new();
    for (number, lane) in (0..).zip(&lanes) {
        for (access, (offset, bytes)) in &lane.shared {
            together.entry(*access).or_default().push((number, *offset, *bytes));
        }
    }
    let sum = |of: fn(&[(u32, u32, u32)]) -> u64| together.values().map(|accesses| of(accesses)).sum();
    Counted {
        name: dispatch.kernel.name,
        counts,
        wavefronts: [sum(wavefronts), sum(fewest)],
        loaded: lanes.iter().map(|lane| lane.loaded).sum(),
        registers: program.registers(None),
    }
}

/// How often a memory of 32 banks of 4 bytes is read for one access of 32 lanes: vectors of 16 bytes for 8 lanes at a time.
fn wavefronts(accesses: &[(u32, u32, u32)]) -> u64 {
    let at_once = 128 / accesses[0].2.max(4);
    let parts = (0..LANES / at_once).map(|part| {
        let mut banks: HashMap<u32, Vec<u32>> = HashMap::new();
        for (_, offset, bytes) in accesses.iter().filter(|(lane, ..)| lane / at_once == part) {
            for word in offset / 4..(offset + bytes) / 4 {
                let words = banks.entry(word % 32).or_default();
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        banks.values().map(Vec::len).max().unwrap_or(0) as u64
    });
    parts.sum()
}

fn fewest(accesses: &[(u32, u32, u32)]) -> u64 {
    let at_once = 128 / accesses[0].2.max(4);
    (0..LANES / at_once).filter(|part| accesses.iter().any(|(lane, ..)| lane / at_once == *part)).count() as u64
}

impl Counted {
    fn of(&self, class: Class) -> u64 {
        self.counts[class as usize]
    }

    /// The multiply-adds' share of the instructions that are issued, or of what the slowest unit takes.
    fn share(&self) -> f64 {
        let fma = self.of(Class::Fma) as f64 / 4.0;
        let issued = self.counts.iter().sum::<u64>() as f64 / 4.0;
        let special = self.of(Class::Special) as f64 * 2.0;
        fma / issued.max(special).max(self.wavefronts[0] as f64)
    }

    fn print(&self) {
        let Self { name, counts, wavefronts: [met, fewest], loaded, registers } = self;
        let fma = self.of(Class::Fma);
        println!(
            "{name:34} {fma:8} fma {:7} float {:6} special {:7} integer | shared {:6} loads {:5} stores {met:6} of {fewest:6} wavefronts | \
             global {:5} loads {:4} stores {:5.1} FLOP/B | {:4} barriers, {:.0} fma each | {registers} registers | {:.3} of the rate",
            counts[Class::Float as usize],
            counts[Class::Special as usize],
            counts[Class::Integer as usize],
            counts[Class::LoadShared as usize],
            counts[Class::StoreShared as usize],
            counts[Class::LoadGlobal as usize],
            counts[Class::StoreGlobal as usize],
            (2 * fma * u64::from(LANES)) as f64 / *loaded as f64,
            self.of(Class::Barrier),
            fma as f64 / self.of(Class::Barrier) as f64,
            self.share()
        );
    }
}

fn weight(dims: &[usize], format: WeightFormat) -> Weight {
    let shape = Shape::new(dims);
    Weight::from_f32("w", shape, &vec![0.0; shape.elements()], format)
}

fn product(rows: usize, k: usize, n: usize, format: WeightFormat) -> Graph {
    let plan = Plan::new();
    plan.output("y", plan.input("x", &[rows, k], Cadence::Once).linear(&weight(&[n, k], format), None));
    plan.finish().expect("valid")
}

fn attention(tokens: usize, heads: usize, head: usize) -> Graph {
    let plan = Plan::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| plan.input(name, &[tokens, heads * head], Cadence::Once));
    let sequences = vec![[0, tokens as u32, 0, tokens as u32]];
    let options = AttentionOptions { heads, scale: 0.1, sequences, mask: None, bias: None };
    plan.output("y", q.flash_attention(k, v, &options));
    plan.finish().expect("valid")
}

fn convolution(size: [usize; 3], channels: [usize; 2], format: WeightFormat) -> Graph {
    let plan = Plan::new();
    let [f, h, w] = size;
    let options =
        Conv3dOptions { stride: [1; 3], front: [2, 1, 1], back: [0, 1, 1], time_padding: Padding::Replicate, space_padding: Padding::Zero };
    let x = plan.input("x", &[1, f, h, w, channels[0]], Cadence::Once);
    plan.output("y", x.conv3d(&weight(&[channels[1], channels[0], 3, 3, 3], format), None, &options));
    plan.finish().expect("valid")
}

/// The dispatch of a plan of one operation, with the kernels for GPUs.
fn dispatch(graph: &Graph) -> Dispatch {
    let [step] = &graph.steps[..] else { panic!("one operation") };
    lower(graph, step, Preset::Gpu).pop().expect("a dispatch")
}

#[test]
fn kernels_for_gpus_mostly_multiply_and_add() {
    let of = |graph: &Graph| {
        let counted = count(&dispatch(graph));
        counted.print();
        counted
    };
    let bars = [
        (of(&product(4032, 1536, 8960, WeightFormat::F16)), 0.85),
        (of(&attention(640, 12, 128)), 0.7),
        (of(&convolution([3, 32, 48], [192, 192], WeightFormat::F16)), 0.8),
    ];
    for (counted, bar) in bars {
        assert_eq!(counted.wavefronts[0], counted.wavefronts[1], "{}: lanes meet at banks", counted.name);
        assert!(counted.share() >= bar, "{}: {:.3} of the rate, {bar} wanted", counted.name, counted.share());
    }
}
