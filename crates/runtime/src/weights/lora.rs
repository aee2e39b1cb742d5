//! Low-rank adaptations (LoRA, arXiv 2106.09685): files in every spelling that is in use, added to a model's weights where those
//! are read, whatever their encoding.
//!
//! A key is `PREFIX MODULE SUFFIX`. Modules are compared with dots as underscores, in the names of the reference and in those of
//! every known [layout](crate::models::layout), so that one comparison serves all producers.

use std::collections::BTreeMap;

use kinora_kernels::Delta;

use super::checkpoint::Checkpoint;
use super::tensor::Entry;
use crate::error::{Error, Result};

/// What a tensor of the file is for its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Down,
    Up,
    Alpha,
    /// Added to the weight.
    Diff,
    /// Added to the bias.
    DiffBias,
    /// Added to the table of modulations beside the module's layers.
    DiffTable,
    /// Changes the arithmetic in a way that is not done here.
    Other,
}

/// Endings of keys; of two that fit, the first counts.
const SUFFIXES: [(&str, Kind); 22] = [
    (".lora_linear_layer.down.weight", Kind::Down),
    (".lora_linear_layer.up.weight", Kind::Up),
    (".lora_A.default.weight", Kind::Down),
    (".lora_B.default.weight", Kind::Up),
    (".lora_down.weight", Kind::Down),
    (".lora_up.weight", Kind::Up),
    (".lora_A.weight", Kind::Down),
    (".lora_B.weight", Kind::Up),
    ("_lora.down.weight", Kind::Down),
    ("_lora.up.weight", Kind::Up),
    (".lora.down.weight", Kind::Down),
    (".lora.up.weight", Kind::Up),
    (".lora_A", Kind::Down),
    (".lora_B", Kind::Up),
    (".alpha", Kind::Alpha),
    (".diff_b", Kind::DiffBias),
    (".diff_m", Kind::DiffTable),
    (".diff", Kind::Diff),
    (".lora_mid.weight", Kind::Other),
    (".dora_scale", Kind::Other),
    (".set_weight", Kind::Other),
    (".reshape_weight", Kind::Other),
];

/// Beginnings of keys before the module; longer ones first.
const PREFIXES: [&str; 8] = [
    "base_model.model.diffusion_model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "base_model.model.",
    "transformer.",
    "lora_transformer_",
    "lora_unet_",
    "lycoris_",
];

/// The same for the second of two denoisers.
const SECOND: &str = "transformer_2.";

/// An adaptation and how much of it is wanted.
#[derive(Clone, Debug)]
pub struct Lora {
    /// Its tensors.
    pub file: Checkpoint,
    /// Factor of all it adds.
    pub strength: f32,
    /// The alpha of modules for which the file has none; their rank if absent, which makes the scale 1.
    pub alpha: Option<f32>,
}

/// What came of an adaptation.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraReport {
    /// What the file is called.
    pub file: String,
    /// Tensors of the file that were used.
    pub applied: usize,
    /// Tensors of the file.
    pub total: usize,
    /// The smallest and the largest rank; zeros if it has none.
    pub ranks: [usize; 2],
    /// Names of tensors that the model has no use for.
    pub unused: Vec<String>,
}

impl std::fmt::Display for LoraReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 3;
        write!(f, "{}: {} of {} tensors applied", self.file, self.applied, self.total)?;
        let (shown, more) = self.unused.split_at(self.unused.len().min(SHOWN));
        if !shown.is_empty() {
            write!(f, "; not used: {}", shown.join(", "))?;
        }
        if more.is_empty() { Ok(()) } else { write!(f, " and {} more", more.len()) }
    }
}

/// A module of the adaptation: its tensors by what they are.
type Module<'a> = BTreeMap<Kind, &'a str>;

impl Lora {
    /// Adds it to the tensors of `model`, which have the names of the reference; `second` of two denoisers takes the keys that are
    /// for it alone. `inverse` gives a name of the reference in the words of each layout.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if it was made for a model of another width, [`Error::InvalidRequest`] if it uses what is not done here
    /// or nothing of it fits.
    pub fn apply(&self, model: &mut Checkpoint, second: bool, inverse: &dyn Fn(&str) -> Vec<String>) -> Result<LoraReport> {
        let mut modules: BTreeMap<String, Module<'_>> = BTreeMap::new();
        let mut report = LoraReport { file: self.file.label().into(), applied: 0, total: 0, ranks: [0, 0], unused: Vec::new() };
        let known = targets(model, inverse);
        for name in self.file.names() {
            report.total += 1;
            match split(name, second).filter(|(module, _)| known.contains_key(module)) {
                Some((_, Kind::Other)) => return Err(self.refuse(name, "plain low-rank pairs, `.diff` and `.diff_b`")),
                Some((module, kind)) => drop(modules.entry(module).or_default().insert(kind, name)),
                None => report.unused.push(name.into()),
            }
        }
        let alphas = self.alphas()?;
        for (key, module) in &modules {
            let target = &known[key];
            self.apply_module(model, target, key, module, &alphas, &mut report)?;
        }
        if report.applied == 0 {
            let first = self.file.names().next().unwrap_or("none");
            return Err(self.refuse(first, "names of layers that this model has"));
        }
        Ok(report)
    }

    fn apply_module(
        &self,
        model: &mut Checkpoint,
        target: &Target,
        key: &str,
        module: &Module<'_>,
        alphas: &[(String, f32)],
        report: &mut LoraReport,
    ) -> Result<()> {
        let mut used = Vec::new();
        if let (Some(down), Some(up)) = (module.get(&Kind::Down), module.get(&Kind::Up)) {
            let (name, shape) = target.weight(model)?;
            let (rows, row) = (shape[0], shape[1..].iter().product::<usize>());
            let rank = self.file.entry(down)?.shape.first().copied().unwrap_or(0);
            self.expect(down, rank, rank * row, &format!("[rank, {row}], as the model's `{name}` has it"))?;
            self.expect(up, rows, rows * rank, &format!("[{rows}, {rank}], as the model's `{name}` has it"))?;
            let own = module.get(&Kind::Alpha).map(|alpha| self.scalar(alpha)).transpose()?;
            let listed = || alphas.iter().find(|(of, _)| key.ends_with(of.as_str())).map(|(_, alpha)| *alpha);
            let alpha = own.or_else(listed).or(self.alpha).unwrap_or(rank as f32);
            let (up, down) = (self.place(up)?, self.place(down)?);
            model.add_delta(&name, Delta::Product { up, down, rank, factor: self.strength * alpha / rank as f32 });
            used.extend([Kind::Down, Kind::Up].into_iter().chain(own.map(|_| Kind::Alpha)));
            let [least, most] = report.ranks;
            report.ranks = [if least == 0 { rank } else { least.min(rank) }, most.max(rank)];
        }
        for (kind, name) in [(Kind::Diff, &target.weight), (Kind::DiffBias, &target.bias), (Kind::DiffTable, &target.weight)] {
            let (Some(diff), Some(name)) = (module.get(&kind), name) else { continue };
            let Entry { shape, .. } = model.entry(name)?;
            self.expect(diff, 0, shape.iter().product(), &format!("{shape:?}, as the model's `{name}` has it"))?;
            let values = self.place(diff)?;
            model.add_delta(name, Delta::Sum { values, factor: self.strength });
            used.push(kind);
        }
        report.applied += used.len();
        // Half a pair, or a bias for a layer without one.
        report.unused.extend(module.iter().filter(|(kind, _)| !used.contains(kind)).map(|(_, name)| (*name).to_owned()));
        Ok(())
    }

    fn refuse(&self, found: &str, expected: &str) -> Error {
        let parameter = format!("adaptation {}", self.file.label());
        Error::InvalidRequest { parameter, found: format!("`{found}`"), expected: expected.into() }
    }

    /// Requires so many values, and if `first` is not 0, so many along the first axis.
    fn expect(&self, name: &str, first: usize, values: usize, expected: &str) -> Result<()> {
        let entry = self.file.entry(name)?;
        let fits = entry.elements() == values && values > 0 && (first == 0 || entry.shape.first() == Some(&first));
        let wrong = || Error::WrongShape { name: name.into(), expected: expected.into(), found: entry.shape.clone() };
        if fits { Ok(()) } else { Err(wrong()) }
    }

    fn place(&self, name: &str) -> Result<kinora_kernels::Place> {
        let dtype = self.file.entry(name)?.dtype;
        let wrong = || Error::WrongDType { name: name.into(), expected: "F32, F16 or BF16".into(), found: dtype.to_string() };
        Ok(self.file.place(name, dtype.encoding().ok_or_else(wrong)?)?.place)
    }

    fn scalar(&self, name: &str) -> Result<f32> {
        let view = self.file.get(name)?;
        match view.to_f32().as_slice() {
            [value] if value.is_finite() => Ok(*value),
            _ => Err(Error::WrongShape { name: name.into(), expected: "one finite number".into(), found: view.shape.to_vec() }),
        }
    }

    /// Alphas that the header lists (`lora_adapter_metadata` of PEFT): of modules whose names end so, then of all.
    fn alphas(&self) -> Result<Vec<(String, f32)>> {
        let Some(text) = self.file.metadata("lora_adapter_metadata") else { return Ok(Vec::new()) };
        let corrupt = |e: serde_json::Error| Error::CorruptWeights {
            file: self.file.label().into(),
            problem: format!("`lora_adapter_metadata`: {e}"),
        };
        let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(corrupt)?;
        let mut alphas = Vec::new();
        // Keys may begin with the component they are of.
        for (_, patterns) in values.iter().filter(|(key, _)| key.ends_with("alpha_pattern")) {
            let patterns = patterns.as_object().into_iter().flatten();
            alphas.extend(patterns.filter_map(|(module, alpha)| Some((underscored(module), alpha.as_f64()? as f32))));
        }
        let all = values.iter().filter(|(key, _)| key.ends_with("lora_alpha")).filter_map(|(_, alpha)| alpha.as_f64());
        alphas.extend(all.map(|alpha| (String::new(), alpha as f32)));
        Ok(alphas)
    }
}

fn underscored(name: &str) -> String {
    name.replace('.', "_")
}

/// Module, with dots as underscores, and kind of a key; `None` if it is the other denoiser's, or no key of an adaptation.
fn split(name: &str, second: bool) -> Option<(String, Kind)> {
    let (module, kind) = SUFFIXES.iter().find_map(|(suffix, kind)| Some((name.strip_suffix(suffix)?, *kind)))?;
    let bare = match module.strip_prefix(SECOND) {
        Some(_) if !second => return None,
        Some(bare) => bare,
        None => PREFIXES.iter().find_map(|prefix| module.strip_prefix(prefix)).unwrap_or(module),
    };
    let mut key = underscored(&bare.replace(".processor", ""));
    if key.ends_with("to_out") {
        key += "_0";
    }
    if kind == Kind::DiffTable {
        key += "_modulation";
    }
    Some((key, kind))
}

/// What a module's deltas are added to.
#[derive(Default)]
struct Target {
    weight: Option<String>,
    bias: Option<String>,
}

impl Target {
    /// Name and extents of the matrix.
    fn weight(&self, model: &Checkpoint) -> Result<(String, Vec<usize>)> {
        let name = self.weight.clone().unwrap_or_default();
        let shape = model.entry(&name)?.shape.clone();
        let matrix = shape.len() > 1;
        let wrong = || Error::WrongShape { name: name.clone(), expected: "a matrix".into(), found: shape.clone() };
        if matrix { Ok((name, shape)) } else { Err(wrong()) }
    }
}

/// The modules of a model under every name that a key may have for them.
fn targets(model: &Checkpoint, inverse: &dyn Fn(&str) -> Vec<String>) -> BTreeMap<String, Target> {
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    for name in model.names() {
        let (module, bias) = match name.strip_suffix(".bias") {
            Some(module) => (module, true),
            None => (name.strip_suffix(".weight").unwrap_or(name), false),
        };
        for alias in inverse(module).iter().map(String::as_str).chain([module]) {
            let target = targets.entry(underscored(alias)).or_default();
            *(if bias { &mut target.bias } else { &mut target.weight }) = Some(name.into());
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_producers_name_the_same_module() {
        let of = |name: &str| split(name, false).unwrap_or_else(|| panic!("{name}"));
        for prefix in ["diffusion_model.", "model.diffusion_model.", "", "base_model.model.", "base_model.model.diffusion_model."] {
            for (suffix, kind) in
                [(".lora_A.weight", Kind::Down), (".lora_B.default.weight", Kind::Up), (".alpha", Kind::Alpha), (".diff_b", Kind::DiffBias)]
            {
                assert_eq!(
                    of(&format!("{prefix}blocks.3.self_attn.q{suffix}")),
                    ("blocks_3_self_attn_q".into(), kind),
                    "{prefix} {suffix}"
                );
            }
        }
        assert_eq!(of("lora_unet_blocks_3_self_attn_q.lora_down.weight"), ("blocks_3_self_attn_q".into(), Kind::Down), "kohya");
        assert_eq!(of("lycoris_blocks_3_ffn_0.lora_up.weight"), ("blocks_3_ffn_0".into(), Kind::Up), "LyCORIS");
        assert_eq!(of("transformer.blocks.3.attn1.to_out.0.lora_A.weight"), ("blocks_3_attn1_to_out_0".into(), Kind::Down), "diffusers");
        assert_eq!(
            of("blocks.3.attn1.processor.to_out_lora.down.weight"),
            ("blocks_3_attn1_to_out_0".into(), Kind::Down),
            "diffusers, old"
        );
        assert_eq!(of("blocks.0.diff_m"), ("blocks_0_modulation".into(), Kind::DiffTable));
        assert_eq!(split("transformer_2.blocks.0.attn1.to_q.lora_A.weight", false), None, "for the other denoiser");
        assert!(split("transformer_2.blocks.0.attn1.to_q.lora_A.weight", true).is_some(), "for this one");
        assert_eq!(split("blocks.0.attn1.to_q.weight", false), None, "a whole weight");
    }
}
