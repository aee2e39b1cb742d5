//! The table of kernels and variants, `shaders/variants.toml`.
//!
//! ```toml
//! ["matmul/gemm_soft"]
//! axes      = { weights = ["f32", "f16"], bias = [false, true], head = [32, 64] }
//! constants = { ROWS = 16 }
//! ```
//!
//! A text axis becomes an enum and one WESL feature per value; a boolean axis becomes a `bool` and
//! one feature named as the axis; a numeric axis becomes an enum and a link-time constant named as
//! the axis in capitals. `features` lists features that all variants have. `needs` lists what the kernel needs of an adapter beyond WebGPU's defaults, or what each of some
//! features needs: `needs = { quads = ["subgroups"] }`.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::Error;

/// One kernel of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Path of the shader below `shaders/`, without extension.
    pub(crate) path: String,
    pub(crate) axes: Vec<Axis>,
    /// Link-time constants common to all variants, sorted by name.
    pub(crate) constants: BTreeMap<String, u32>,
    needs: Vec<Needs>,
    /// WESL features of all variants.
    features: Vec<String>,
}

/// What variants with a feature need, or all of them.
#[derive(Debug)]
struct Needs {
    feature: Option<String>,
    needs: Vec<Need>,
}

/// What an adapter must have beyond WebGPU's defaults. Browsers give wgpu none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Subgroups,
    Integers64,
    /// Nothing, but no page runs it.
    Native,
}

#[derive(Debug)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) values: Values,
}

#[derive(Debug)]
pub(crate) enum Values {
    Text(Vec<String>),
    Bool,
    Number(Vec<u32>),
}

impl Values {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Bool => 2,
            Self::Number(values) => values.len(),
        }
    }
}

/// One value chosen on each axis of a row: indices into [`Axis::values`].
pub(crate) struct Selection<'a> {
    choices: Vec<(&'a Axis, usize)>,
    fixed: &'a [String],
}

impl Row {
    /// File name of the kernel, which names its Rust module.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// All combinations; the last axis varies fastest.
    pub(crate) fn selections(&self) -> Vec<Selection<'_>> {
        let count = self.axes.iter().map(|axis| axis.values.len()).product();
        (0..count)
            .map(|mut rest: usize| {
                let mut choices: Vec<_> = self
                    .axes
                    .iter()
                    .rev()
                    .map(|axis| {
                        let choice = rest % axis.values.len();
                        rest /= axis.values.len();
                        (axis, choice)
                    })
                    .collect();
                choices.reverse();
                Selection { choices, fixed: &self.features }
            })
            .collect()
    }
}

impl Selection<'_> {
    /// The WESL features switched on.
    pub(crate) fn features(&self) -> impl Iterator<Item = &str> {
        let chosen = self.choices.iter().filter_map(|(axis, choice)| match &axis.values {
            Values::Text(values) => Some(values[*choice].as_str()),
            Values::Bool => (*choice == 1).then_some(axis.name.as_str()),
            Values::Number(_) => None,
        });
        chosen.chain(self.fixed.iter().map(String::as_str))
    }

    /// What an adapter must have to run it.
    pub(crate) fn needs(&self, row: &Row) -> Vec<Need> {
        let applies = |needs: &&Needs| needs.feature.as_ref().is_none_or(|wanted| self.features().any(|f| f == wanted));
        row.needs.iter().filter(applies).flat_map(|needs| &needs.needs).copied().collect()
    }

    /// The row's constants and those of numeric axes, sorted by name.
    pub(crate) fn constants(&self, row: &Row) -> BTreeMap<String, u32> {
        let mut constants = row.constants.clone();
        for (axis, choice) in &self.choices {
            if let Values::Number(values) = &axis.values {
                constants.insert(axis.name.to_uppercase(), values[*choice]);
            }
        }
        constants
    }

    fn words(&self) -> Vec<String> {
        self.choices
            .iter()
            .filter_map(|(axis, choice)| match &axis.values {
                Values::Number(values) => Some(format!("{}{}", axis.name, values[*choice])),
                Values::Text(values) => Some(values[*choice].clone()),
                Values::Bool => (*choice == 1).then(|| axis.name.clone()),
            })
            .collect()
    }

    /// Name shown to people, e.g. `gemm_lanes[f16,bias]`.
    pub(crate) fn label(&self, row: &Row) -> String {
        let words = self.words();
        if words.is_empty() { row.name().to_owned() } else { format!("{}[{}]", row.name(), words.join(",")) }
    }

    pub(crate) fn file(&self, row: &Row) -> String {
        let mut parts = vec![row.name().to_owned()];
        parts.extend(self.words());
        format!("{}.wgsl", parts.join("."))
    }
}

/// Every feature any row can switch on: a condition on another name is a spelling mistake.
pub(crate) fn features(rows: &[Row]) -> Vec<&str> {
    let mut features: Vec<&str> = rows
        .iter()
        .flat_map(|row| &row.axes)
        .flat_map(|axis| match &axis.values {
            Values::Text(values) => values.iter().map(String::as_str).collect(),
            Values::Bool => vec![axis.name.as_str()],
            Values::Number(_) => Vec::new(),
        })
        .collect();
    features.extend(rows.iter().flat_map(|row| &row.features).map(String::as_str));
    features.sort_unstable();
    features.dedup();
    features
}

pub(crate) fn parse(text: &str) -> Result<Vec<Row>, Error> {
    let table: Table = text.parse().map_err(|e| Error::one(format!("variants.toml: {e}")))?;
    let mut problems = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for (path, value) in &table {
        match row(path, value) {
            Ok(row) => rows.push(row),
            Err(message) => problems.push(format!("variants.toml [{path}]: {message}")),
        }
    }
    for (i, row) in rows.iter().enumerate() {
        if rows[..i].iter().any(|other| other.name() == row.name()) {
            problems.push(format!("variants.toml [{}]: another kernel has the same file name", row.path));
        }
    }
    if problems.is_empty() { Ok(rows) } else { Err(Error { problems }) }
}

fn row(path: &str, value: &Value) -> Result<Row, String> {
    let table = value.as_table().ok_or("expected a table with `axes`, `constants`, `features` and `needs`")?;
    if let Some(key) = table.keys().find(|key| !["axes", "constants", "features", "needs"].contains(&key.as_str())) {
        return Err(format!("unknown key `{key}`, expected `axes`, `constants`, `features` or `needs`"));
    }
    let section = |key: &str| match table.get(key) {
        None => Ok(Table::new()),
        Some(Value::Table(section)) => Ok(section.clone()),
        Some(other) => Err(format!("`{key}` is a {}, expected a table", other.type_str())),
    };
    let axes: Vec<Axis> = section("axes")?.iter().map(|(name, value)| axis(name, value)).collect::<Result<_, _>>()?;
    let constants = section("constants")?
        .iter()
        .map(|(name, value)| Ok((name.clone(), number(name, value)?)))
        .collect::<Result<BTreeMap<_, _>, String>>()?;

    let needs = table.get("needs").map_or(Ok(Vec::new()), needs)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let features = table.get("features").map_or(Some(Vec::new()), |value| value.as_array()?.iter().map(text).collect());
    let features = features.ok_or("`features` is no list of texts")?;
    let row = Row { path: path.to_owned(), axes, constants, needs, features };
    let mut seen: Vec<&str> = Vec::new();
    for axis in &row.axes {
        let features: Vec<&str> = match &axis.values {
            Values::Text(values) => values.iter().map(String::as_str).collect(),
            _ => vec![&axis.name],
        };
        for feature in features {
            if seen.contains(&feature) {
                return Err(format!("`{feature}` names two features; a value belongs to one axis"));
            }
            seen.push(feature);
        }
    }
    match row.needs.iter().filter_map(|needs| needs.feature.as_deref()).find(|feature| !seen.contains(feature)) {
        Some(feature) => Err(format!("`needs` of `{feature}`, which is a value of no axis")),
        None => Ok(row),
    }
}

fn needs(value: &Value) -> Result<Vec<Needs>, String> {
    let list = |value: &Value| {
        let need = |value: &Value| match value.as_str() {
            Some("subgroups") => Some(Need::Subgroups),
            Some("integers64") => Some(Need::Integers64),
            Some("native") => Some(Need::Native),
            _ => None,
        };
        let all: Option<Vec<Need>> = value.as_array().and_then(|list| list.iter().map(need).collect());
        all.ok_or_else(|| {
            format!("`needs` is {value:?}, expected a list of `subgroups`, `integers64` and `native`, or one for each of some features")
        })
    };
    match value {
        Value::Table(features) => {
            features.iter().map(|(feature, value)| Ok(Needs { feature: Some(feature.clone()), needs: list(value)? })).collect()
        }
        _ => Ok(vec![Needs { feature: None, needs: list(value)? }]),
    }
}

fn axis(name: &str, value: &Value) -> Result<Axis, String> {
    let malformed = || format!("axis `{name}`: expected a list of texts, of numbers, or [false, true]");
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(malformed)?;
    let values = match &list[0] {
        Value::Boolean(false) if list[1..] == [Value::Boolean(true)] => Values::Bool,
        Value::String(_) => Values::Text(list.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(malformed)?),
        Value::Integer(_) => Values::Number(list.iter().map(|v| number(name, v)).collect::<Result<_, _>>()?),
        _ => return Err(malformed()),
    };
    Ok(Axis { name: name.to_owned(), values })
}

fn number(name: &str, value: &Value) -> Result<u32, String> {
    value.as_integer().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| format!("`{name}` is {value:?}, expected an integer in 0..2^32"))
}
