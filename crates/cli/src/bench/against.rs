//! A bench beside an earlier one, by shares of what the adapter reached in each, so that a faster or slower hour does not count.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::failure::{Exit, Failure};

/// The row names of an earlier bench with their shares, and what it ran on.
pub(super) struct Earlier {
    device: String,
    shares: BTreeMap<String, f64>,
}

impl Earlier {
    /// What `--save` wrote.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bad = |problem: String| {
            Failure::new(Exit::Usage, "invalid-bench", format!("{}: {problem}", path.display())).hint("give a file that --save wrote")
        };
        let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let saved: Value = serde_json::from_str(&text).map_err(|error| bad(format!("not JSON: {error}")))?;
        let shares = shares(&saved);
        if shares.is_empty() {
            return Err(bad("it has no rows of a bench".into()));
        }
        Ok(Self { device: saved["device"].as_str().unwrap_or("a device without a name").to_owned(), shares })
    }

    /// How many times faster each row is `now`, relative to the adapter; and the rows that only one of them has.
    pub(super) fn compare(&self, now: &Value) -> Value {
        let shares = shares(now);
        let ratios: BTreeMap<&String, f64> =
            shares.iter().filter_map(|(name, share)| Some((name, share / self.shares.get(name)?))).collect();
        let lacking = |from: &BTreeMap<String, f64>, all: &BTreeMap<String, f64>| -> Vec<String> {
            all.keys().filter(|name| !from.contains_key(*name)).cloned().collect()
        };
        json!({
            "device": self.device,
            "ratios": ratios,
            "onlyNow": lacking(&self.shares, &shares),
            "onlyBefore": lacking(&shares, &self.shares),
        })
    }
}

/// The comparison for people, slowest first.
pub(super) fn table(compared: &Value) -> Vec<String> {
    let mut rows: Vec<(&String, f64)> =
        compared["ratios"].as_object().into_iter().flatten().filter_map(|(name, ratio)| Some((name, ratio.as_f64()?))).collect();
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    let head = format!("against the bench of {}, relative to what each adapter reached:", compared["device"].as_str().unwrap_or_default());
    let rows = rows.into_iter().map(|(name, ratio)| format!("{name:<44} {ratio:>6.2} times as fast"));
    let lone = [("onlyNow", "now"), ("onlyBefore", "before")].into_iter().flat_map(|(key, when)| {
        compared[key].as_array().into_iter().flatten().filter_map(move |name| Some(format!("{:<44} only {when}", name.as_str()?)))
    });
    [head].into_iter().chain(rows).chain(lone).collect()
}

/// The share of each row, by its name. Stages of a clip have none: their speed is taken by the adapter's peak.
fn shares(bench: &Value) -> BTreeMap<String, f64> {
    let rows = |key: &str, share: &'static str| {
        let rows = bench[key].as_array().cloned().unwrap_or_default();
        rows.into_iter().filter_map(move |row| Some((row["name"].as_str()?.to_owned(), row[share].as_f64()?)))
    };
    let peak = bench["peakGflops"].as_f64();
    let clip = ["step", "decode", "whole"].into_iter().filter_map(|stage| {
        let milliseconds = bench["clip"][format!("{stage}Milliseconds")].as_f64()?;
        Some((format!("clip/{stage}"), 1.0 / (milliseconds * peak?)))
    });
    let all = rows("rows", "fractionOfPeak").chain(rows("memoryRows", "fractionOfCopy")).chain(clip);
    all.filter(|(_, share)| share.is_finite() && *share > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(share: f64, step: f64, peak: f64, more: &str) -> Value {
        json!({
            "device": "an adapter",
            "peakGflops": peak,
            "rows": [{ "name": "gemm", "fractionOfPeak": share }, { "name": more, "fractionOfPeak": 0.1 }],
            "memoryRows": [{ "name": "add", "fractionOfCopy": 0.5 }],
            "clip": { "stepMilliseconds": step, "decodeMilliseconds": 10.0, "wholeMilliseconds": 100.0 },
        })
    }

    #[test]
    fn a_slow_hour_is_no_slower_kernel() {
        let earlier = Earlier { device: "an adapter".into(), shares: shares(&bench(0.2, 10.0, 100.0, "old")) };
        let compared = earlier.compare(&bench(0.3, 20.0, 50.0, "new"));
        let ratios = json!({ "gemm": 0.3 / 0.2, "add": 1.0, "clip/step": 1.0, "clip/decode": 2.0, "clip/whole": 2.0 });
        for (name, ratio) in ratios.as_object().into_iter().flatten() {
            let found = compared["ratios"][name].as_f64().unwrap_or_default();
            assert!((found - ratio.as_f64().unwrap_or_default()).abs() < 1e-12, "{name}: {found}");
        }
        assert_eq!((&compared["onlyNow"], &compared["onlyBefore"]), (&json!(["new"]), &json!(["old"])));
        let lines = table(&compared);
        assert!(lines[1].starts_with("add") && lines.last().is_some_and(|line| line.ends_with("only before")), "{lines:?}");
    }

    #[test]
    fn what_is_no_bench_is_refused() {
        let folder = std::env::temp_dir().join(format!("kinora-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("writable");
        for (name, text) in [("text", "no JSON"), ("empty", "{}"), ("rows", r#"{"rows":[{"name":"x"}]}"#)] {
            let path = folder.join(name);
            fs::write(&path, text).expect("writable");
            assert_eq!(Earlier::read(&path).err().map(|failure| failure.code), Some("invalid-bench"), "{name}");
        }
        assert!(Earlier::read(&folder.join("missing")).is_err());
        fs::remove_dir_all(&folder).expect("removable");
    }
}
