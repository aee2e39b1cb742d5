//! Whether the tests of kernels would notice a wrong one: operators, bounds, indices and constants of shaders are changed one at a
//! time, and a case that uses the kernel must fail. `cargo xtask mutants` tries as many as `KINORA_MUTANTS` says, from the number after
//! `KINORA_SEED` on, or those of the numbers in `KINORA_NUMBERS`.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/random.rs"]
mod random;
mod support;

use std::collections::BTreeMap;

use cases::{Case, cases};
use kinora_kernels::{Device, Executable, Gpu, Kernel, Mutant};
use random::Random;
use support::{body, devices, run};

/// What is changed to what. Each is of one kind of mistake and leaves the types as they are.
const CHANGES: [(&str, &str); 14] = [
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " + "),
    (" / ", " * "),
    (" < ", " <= "),
    (" >= ", " > "),
    (" < ", " > "),
    (" && ", " || "),
    (" == ", " != "),
    (" % ", " / "),
    ("max(", "min("),
    (".x", ".y"),
    ("[0u]", "[1u]"),
    ("4u", "8u"),
];

/// What became of a mutant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is no shader.
    Invalid,
    Noticed,
    /// Every case passes.
    Survives {
        /// Whether results differ at all.
        differs: bool,
    },
}

/// The change of this number of a kernel, if there is a place for it: in a statement, outside of comments and declarations.
fn mutant(kernel: &Kernel, number: u64) -> Option<Mutant> {
    let text = kernel.source();
    let mut random = Random(number);
    let (from, to) = *random.pick(&CHANGES);
    let body = text.find("fn ")?;
    let mut places = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let is_code = line_start >= body && !["@", "fn "].iter().any(|mark| line.trim_start().starts_with(mark));
        let code = line.find("//").map_or(line, |at| &line[..at]);
        if is_code {
            places.extend(code.match_indices(from).map(|(at, _)| line_start + at));
        }
        line_start += line.len();
    }
    let place = *places.get(random.below(places.len()))?;
    Some(Mutant { kernel: kernel.name, place, length: from.len(), text: to.to_owned() })
}

/// The line of a mutant, before and after.
fn shown(kernel: &Kernel, mutant: &Mutant) -> String {
    let text = kernel.source();
    let start = text[..mutant.place].rfind('\n').map_or(0, |at| at + 1);
    let end = text[mutant.place..].find('\n').map_or(text.len(), |at| mutant.place + at);
    let after = [&text[start..mutant.place], &mutant.text, &text[mutant.place + mutant.length..end]].concat();
    format!("{}: `{}` → `{}`", kernel.name, text[start..end].trim(), after.trim())
}

/// The bits of a result.
fn bits(device: &Device, case: &Case) -> Option<Vec<u32>> {
    let found = pollster::block_on(body::evaluate(device, &case.graph, &case.indices, Executable::new)).ok()?;
    Some(found.into_iter().map(f32::to_bits).collect())
}

/// What becomes of a mutant under the cases of its kernel.
fn end_of(device: &Device, gpu: &Gpu, mutant: &Mutant, own: &[&(Case, Vec<f32>)]) -> End {
    let results = || own.iter().map(|(case, _)| bits(device, case)).collect::<Vec<_>>();
    gpu.mutate(Some(mutant.clone()));
    for (Case { graph, terms, indices }, expected) in own {
        if let Err(problem) = pollster::block_on(body::compare(device, graph, *terms, indices, expected)) {
            gpu.mutate(None);
            return if problem.contains("Shader") { End::Invalid } else { End::Noticed };
        }
    }
    let changed = results();
    gpu.mutate(None);
    End::Survives { differs: changed != results() }
}

/// Beyond the last one there is nothing to be seen: mutants are compiled with the bounds checks of browsers, which drop it. The kernels
/// as they run natively are tested between canaries.
const BEYOND: &str = "what is written beyond the end is dropped";
/// Loops take one round more, over what is zero or hidden there.
const ONE_MORE: &str = "what lies beyond the end counts as nothing";

/// What is written a row too far.
const LATER: &str = "what stands beyond the end of a row is the next one's, which comes later on a software adapter";

/// How the names of some kernels begin.
const GEMM_NARROW: &str = "gemm_lanes[narrow";

/// Changes of which it is known why no result shows them: how the names of the kernels begin, what a line becomes, and the reason.
/// That results stay the same to the bit is checked.
const WITHOUT_EFFECT: [(&str, &str, &str); 44] = [
    ("", "item > p.end", BEYOND),
    ("", "item <= p.end", BEYOND),
    ("", "item < p.end || task < p.tasks", BEYOND),
    ("", "item < p.end && task <= p.tasks", BEYOND),
    ("", "i > p.vectors", BEYOND),
    ("", "row0 > p.rows", BEYOND),
    ("", "row <= p.rows", BEYOND),
    ("", "col4 <= p.n4", BEYOND),
    ("", "c <= p.channels", BEYOND),
    ("", "rest > p.runs", BEYOND),
    ("", "item >= p.end &&", BEYOND),
    ("", "min(k4 + 1u, p.k4 + 1u)", "beyond the last vector weights are zero"),
    ("", "c.tap.x <= p.kernel.x", "beyond the last tap weights are zero"),
    ("", "min(row, p.rows + 1u)", "rows beyond the last are read and not written"),
    ("", "key <= tile.k_len", ONE_MORE),
    ("", "k4 <= p.k4", ONE_MORE),
    ("", "invocation.groups.y", "grids fold into two dimensions only beyond 65,535 workgroups"),
    ("", "invocation.group.y +", "as above"),
    ("", "- 0u", "as + 0u"),
    ("", "(a + b + 1u) / b", "a bound that is larger than need be"),
    ("", "v <= vec4(0.0)", "0 is 0"),
    ("conv3d_lanes", "p.rows + 1u), p.output", "rows beyond the last are read and not written"),
    (GEMM_NARROW, "col4 % 4u * lanes_SHARE4", "a share is one vector"),
    ("reindex", "i <= p.run;", LATER),
    ("row_norm", "(68u / reduce_LANES_PER_ROW)", "as many rows: the division rounds down"),
    ("unary[", "x[i] * p.scale - p.offset", "0 is 0: no function has an offset"),
    ("", "below <= vec4(-10.0)", "-10 is -10"),
    ("", "v <= vec4(-80.0)", "silu(-80) is below 1e-32 either way"),
    ("row_norm", "min(task, p.tasks + 1u)", "rows beyond the last are read and not written"),
    ("conv3d_lanes", "grid_ceil_div(n4, 4u) + 1u)", "columns beyond the last are computed and not written"),
    (GEMM_NARROW, "row < p.rows || col4 < p.n4", LATER),
    ("flash_", "row <= rows", LATER),
    ("reindex", "source + i + p.in_run", "kernels for GPUs copy runs of one scalar"),
    ("reindex", "to - i * p.out_run", "as above"),
    ("gemm_lanes", "col4 + 1u <= p.n4", LATER),
    ("gemm_", "grid_ceil_div(p.n4, 4u) + 1u)", "columns beyond the last are computed and not written"),
    ("flash_gpu[head64]", "scores_biased(min(key, k_len - 1u) * 4u", "there is no bias"),
    ("", "i > p.scalars", BEYOND),
    ("gather_indices", "i > p.rows", "what follows the last index is padding"),
    ("flash_gpu[head64", "ty - 32u, slice4 + tx + 16u", "heads of 64 end before these columns"),
    (GEMM_NARROW, "grid_ceil_div(p.n4, 8u + lanes_SHARE4)", "a narrow output is one block of columns"),
    ("conv3d_gpu", "8u * taps * p.input.w - 1u", "weights beyond the last meet zeros"),
    ("gemm_gpu", "min(k4, p.k4 + 1u)], k4 < p.k4", "what stands beyond the last vector is not chosen"),
    ("reindex", "k > 0u || rest > 0u", "of what is left after the last loop nothing is left, and what is left of nothing adds nothing"),
];

/// Whether the line of a mutant holds one of these, and not before.
fn is_equivalent(kernel: &Kernel, mutant: &Mutant) -> bool {
    let text = kernel.source();
    let start = text[..mutant.place].rfind('\n').map_or(0, |at| at + 1);
    let end = text[mutant.place..].find('\n').map_or(text.len(), |at| mutant.place + at);
    let changed = [&text[start..mutant.place], &mutant.text, &text[mutant.place + mutant.length..end]].concat();
    let more = |known: &str| changed.matches(known).count() > text[start..end].matches(known).count();
    WITHOUT_EFFECT.iter().any(|(kernels, known, _)| kernel.name.starts_with(kernels) && more(known))
}

#[test]
#[ignore = "which changes have an effect differs by adapter: `cargo xtask mutants`"]
fn changed_kernels_are_noticed() {
    let number = |name: &str, otherwise| std::env::var(name).ok().map_or(otherwise, |text| text.parse::<u64>().expect("a number"));
    let (wanted, first) = (number("KINORA_MUTANTS", 6), number("KINORA_SEED", 0));
    let cases: Vec<(Case, Vec<f32>)> = cases()
        .into_iter()
        .map(|case| {
            let expected = run(&Device::cpu(), &case.graph, &case.indices);
            (case, expected)
        })
        .collect();
    let mut survivors = Vec::new();
    let (mut tried, mut equivalent) = (0, 0);
    let listed = std::env::var("KINORA_NUMBERS").unwrap_or_default();
    let listed: Vec<u64> = listed.split_whitespace().map(|text| text.parse().expect("numbers")).collect();
    let numbers = if listed.is_empty() { (first + 1..=first + 100 * wanted).collect() } else { listed.clone() };
    for at in numbers {
        if tried == wanted && listed.is_empty() {
            break;
        }
        let mut random = Random(at);
        let device = random.pick(devices());
        let Device::Gpu(gpu) = device else { continue };
        let preset = device.preset().expect("a GPU");
        // By name, so that another case does not change what becomes of a number.
        let kernels: BTreeMap<&str, &Kernel> =
            cases.iter().flat_map(|(case, _)| case.graph.kernels(preset)).map(|kernel| (kernel.name, kernel)).collect();
        let kernel = *random.pick(&kernels.into_values().collect::<Vec<_>>());
        let Some(mutant) = mutant(kernel, random.next()) else { continue };
        let uses = |graph: &kinora_kernels::Graph| graph.kernels(preset).iter().any(|used| used.name == kernel.name);
        let own: Vec<&(Case, Vec<f32>)> = cases.iter().filter(|(case, _)| uses(&case.graph)).collect();
        let begun = std::time::Instant::now();
        let end = end_of(device, gpu, &mutant, &own);
        let said = match end {
            End::Invalid => continue,
            End::Noticed => "noticed",
            End::Survives { differs: false } if is_equivalent(kernel, &mutant) => "has no effect",
            End::Survives { differs: false } => "SURVIVES, no bit differs",
            End::Survives { differs: true } => "SURVIVES",
        };
        println!("{at} {said} ({:.1} s): {}", begun.elapsed().as_secs_f64(), shown(kernel, &mutant));
        if said == "has no effect" {
            equivalent += 1;
            continue;
        }
        tried += 1;
        if end != End::Noticed {
            survivors.push(format!("{at} {said}: {}", shown(kernel, &mutant)));
        }
    }
    println!("{tried} mutants, {} survive; {equivalent} without effect beside them", survivors.len());
    assert!(tried == wanted || !listed.is_empty(), "too few places");
    assert!(survivors.is_empty(), "{} of {tried} mutants are not noticed:\n{}", survivors.len(), survivors.join("\n"));
}
