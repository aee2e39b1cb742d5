//! Whether the tests of kernels would notice a wrong one: operators, bounds, indices and constants of shaders are changed one at a
//! time, and a case that uses the kernel must fail. `cargo xtask mutants` tries as many as `KINORA_MUTANTS` says.

#[path = "support/cases.rs"]
mod cases;
mod support;

use cases::{Case, cases};
use kinora_kernels::{Device, Kernel, Mutant};
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

/// Changes that no result can show, with the reason. A line of the shader that holds the text is not changed.
const WITHOUT_EFFECT: [(&str, &str); 4] = [
    ("workgroup_id", "grids fold into two dimensions only beyond 65,535 workgroups, and large cases are few"),
    ("@workgroup_size", "the number of threads, not what they do"),
    ("num_workgroups", "as `workgroup_id`"),
    ("fn main(", "the signature"),
];

/// Steele et al., `SplitMix64`.
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The change of this number of a kernel, if there is a place for it: within a function, outside of comments.
fn mutant(kernel: &Kernel, number: u64) -> Option<Mutant> {
    let text = kernel.source();
    let (from, to) = CHANGES[(scramble(number) % CHANGES.len() as u64) as usize];
    let body = text.find("fn ")?;
    let mut places = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let is_code = line_start >= body && !WITHOUT_EFFECT.iter().any(|(mark, _)| line.contains(mark));
        let code = line.find("//").map_or(line, |at| &line[..at]);
        if is_code {
            places.extend(code.match_indices(from).map(|(at, _)| line_start + at));
        }
        line_start += line.len();
    }
    let place = *places.get((scramble(number ^ 0xabcd) % places.len().max(1) as u64) as usize)?;
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

/// Whether a case of the kernel fails, or `None` if the change is no shader.
fn is_noticed(device: &Device, mutant: &Mutant, own: &[&(Case, Vec<f32>)]) -> Option<bool> {
    let Device::Gpu(gpu) = device else { return None };
    gpu.mutate(Some(mutant.clone()));
    let mut noticed = false;
    for (Case { graph, terms, indices }, expected) in own {
        match pollster::block_on(body::compare(device, graph, *terms, indices, expected)) {
            Ok(()) => {}
            Err(problem) if problem.contains("Shader") => {
                gpu.mutate(None);
                return None;
            }
            Err(_) => {
                noticed = true;
                break;
            }
        }
    }
    gpu.mutate(None);
    Some(noticed)
}

#[test]
#[ignore = "which changes have an effect differs by adapter, so that what survives is looked at by a person: `cargo xtask mutants`"]
fn changed_kernels_are_noticed() {
    let wanted = std::env::var("KINORA_MUTANTS").ok().map_or(6, |text| text.parse::<usize>().expect("a number"));
    let cases: Vec<(Case, Vec<f32>)> = cases()
        .into_iter()
        .map(|case| {
            let expected = run(&Device::cpu(), &case.graph, &case.indices);
            (case, expected)
        })
        .collect();
    let mut survivors = Vec::new();
    let mut tried = 0;
    let mut number = 0;
    while tried < wanted && number < 100 * wanted as u64 {
        number += 1;
        let device = &devices()[number as usize % devices().len()];
        let preset = device.preset().expect("a GPU");
        let case = (scramble(number ^ 0x77) % cases.len() as u64) as usize;
        let kernels = cases[case].0.graph.kernels(preset);
        let kernel = kernels[(scramble(number ^ 0x99) % kernels.len() as u64) as usize];
        let Some(mutant) = mutant(kernel, number) else { continue };
        let uses = |graph: &kinora_kernels::Graph| graph.kernels(preset).iter().any(|used| used.name == kernel.name);
        let own: Vec<&(Case, Vec<f32>)> = cases.iter().filter(|(case, _)| uses(&case.graph)).collect();
        match is_noticed(device, &mutant, &own) {
            None => {}
            Some(noticed) => {
                tried += 1;
                if !noticed {
                    survivors.push(format!("number {number}, {}", shown(kernel, &mutant)));
                }
            }
        }
    }
    println!("{tried} mutants, {} survive", survivors.len());
    survivors.iter().for_each(|survivor| println!("{survivor}"));
    assert_eq!(tried, wanted, "too few places");
    assert!(survivors.is_empty(), "{} of {tried} mutants are not noticed:\n{}", survivors.len(), survivors.join("\n"));
}
