//! `kinora bench`: the adapter's peak, and each kernel's share of it.

use serde_json::Value;

use crate::{Report, args::BenchArgs, failure::Failure, run};

pub(crate) fn bench(args: &BenchArgs) -> Result<Report, Failure> {
    let json = run::bench(args)?;
    Ok(Report { text: table(&json), json })
}

/// The rows as a table: name, time, and share of the adapter's measured peak.
fn table(json: &Value) -> String {
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    let mut lines = vec![format!("{}: peak {:.1} GFLOP/s", json["adapter"].as_str().unwrap_or("?"), number(json, "peakGflops"))];
    let rows = json["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width = rows.iter().filter_map(|row| row["name"].as_str()).map(|name| name.chars().count()).max().unwrap_or(0);
    for row in rows {
        let (name, ms, share) = (row["name"].as_str().unwrap_or("?"), number(row, "ms"), 100.0 * number(row, "fraction"));
        lines.push(format!("{name:<width$}  {ms:9.3} ms  {:8.1} GFLOP/s  {share:5.1} %", number(row, "gflops")));
    }
    lines.join("\n")
}
