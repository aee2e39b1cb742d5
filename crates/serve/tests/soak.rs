//! Long runs of the server, by name with `--ignored`; docs/serving.md has their figures.

#[path = "../../kernels/tests/support/random.rs"]
mod random;
#[expect(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{
    collections::HashSet,
    fs, thread,
    time::{Duration, Instant},
};

use random::Random;
use serde_json::{Value, json};
use support::{Folder, Outcome, Server, small};

#[test]
#[ignore = "minutes of work"]
fn two_hundred_clients_lose_no_job_over_ten_kills() -> Outcome {
    let folder = Folder::new("kills")?;
    let words = ["--queue", "20", "--at-once", "4", "--preview-every", "0"];
    let mut server = Server::start(&folder.0, &words)?;
    let mut random = Random(7);
    let (mut accepted, mut refused): (HashSet<String>, usize) = (HashSet::new(), 0);
    for kill in 0..=10 {
        let outcomes: Vec<Option<(u16, bool, Option<String>)>> = thread::scope(|scope| {
            let clients: Vec<_> = (0..200)
                .map(|client| {
                    let server = &server;
                    scope.spawn(move || {
                        let answer = server.create(&small(client)).ok()?;
                        Some((answer.status, answer.header("retry-after").is_some(), answer.json()["id"].as_str().map(str::to_owned)))
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().ok().flatten()).collect()
        });
        for outcome in outcomes.into_iter() {
            match outcome.ok_or("a client got no answer")? {
                (200, _, Some(id)) => assert!(accepted.insert(id), "an id twice"),
                (429, true, _) => refused += 1,
                (status, ..) => return Err(format!("{status}, without Retry-After if 429").into()),
            }
        }
        thread::sleep(Duration::from_millis(100 + random.below(2000) as u64));
        if kill < 10 {
            server.child.kill()?;
            server.child.wait()?;
            server = Server::start(&folder.0, &words)?;
        }
    }
    for id in &accepted {
        assert_eq!(server.over(id)?["status"], "completed", "{id}");
    }
    let clips = fs::read_dir(folder.0.join("clips"))?.count();
    println!("{} jobs taken, {refused} answers of 429, 10 kills, {clips} clips", accepted.len());
    assert_eq!(clips, accepted.len(), "each clip once");
    assert!(refused > 0, "the queue was never full");
    Ok(())
}

#[test]
#[ignore = "minutes of work"]
fn no_body_makes_the_server_fail() -> Outcome {
    let folder = Folder::new("fuzz")?;
    let server = Server::start(&folder.0, &["--queue", "100000", "--at-once", "1"])?;
    let mut random = Random(11);
    let whole = small(1).to_string();
    let form = "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na fox\r\n--b\r\nContent-Disposition: form-data; name=\"input_reference\"; filename=\"a\"\r\n\r\n\x7fPNG\r\n\x1a\n\r\n--b--\r\n";
    let odd = [
        json!(null),
        json!(-1),
        json!(1e308),
        json!("\u{202e}../../etc/passwd"),
        json!([[]]),
        json!({}),
        json!(""),
        json!("1e9"),
        json!(0),
        json!(true),
    ];
    let names = [
        "prompt",
        "size",
        "seconds",
        "seed",
        "steps",
        "frames",
        "guidance",
        "negative_prompt",
        "model",
        "input_reference",
        "id",
        "cancel",
        "output",
    ];
    let (mut statuses, mut created) = (std::collections::BTreeMap::<u16, usize>::new(), 0);
    for round in 0..10_000 {
        let (kind, body) = match round % 4 {
            // Bytes changed.
            0 | 1 => {
                let (kind, text) =
                    if round % 8 < 4 { ("application/json", whole.as_str()) } else { ("multipart/form-data; boundary=b", form) };
                let mut bytes = text.as_bytes().to_vec();
                for _ in 0..=random.below(4) {
                    let at = random.below(bytes.len());
                    match random.below(3) {
                        0 => bytes[at] = random.below(256) as u8,
                        1 => drop(bytes.remove(at)),
                        _ => bytes.insert(at, random.below(256) as u8),
                    }
                }
                (kind, bytes)
            }
            // Cut off.
            2 => ("application/json", whole.as_bytes()[..random.below(whole.len())].to_vec()),
            // Right in form, odd in value.
            _ => {
                let mut body = small(1);
                for _ in 0..=random.below(3) {
                    body[names[random.below(names.len())]] = odd[random.below(odd.len())].clone();
                }
                ("application/json", body.to_string().into_bytes())
            }
        };
        let answer = server.ask("POST", "/v1/videos", &[("Content-Type", kind)], &body)?;
        *statuses.entry(answer.status).or_default() += 1;
        let told = format!("{} of {}: {}", answer.status, String::from_utf8_lossy(&body), answer.json());
        assert!(matches!(answer.status, 200 | 400 | 413 | 415), "{told}");
        if let Some(id) = answer.json()["id"].as_str() {
            created += 1;
            // Only the answers are of interest here.
            server.ask("DELETE", &format!("/v1/videos/{id}"), &[], b"")?;
        }
    }
    assert_eq!(server.get("/healthz")?.status, 200);
    println!("10000 bodies: {statuses:?}, {created} of them jobs");
    Ok(())
}

#[test]
#[ignore = "half a minute of work"]
fn a_status_is_told_within_twenty_milliseconds_while_a_clip_is_made() -> Outcome {
    let folder = Folder::new("status")?;
    let server = Server::start(&folder.0, &[])?;
    let long = json!({ "prompt": "a fox", "steps": 1000, "size": "96x96", "seconds": "1" });
    let id = server.create(&long)?.json()["id"].as_str().ok_or("no id")?.to_owned();
    loop {
        let job = server.get(&format!("/v1/videos/{id}"))?.json();
        assert_ne!(job["status"], "failed", "{job}");
        if job["progress"].as_u64() >= Some(1) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let mut times: Vec<f64> = Vec::new();
    while times.len() < 500 {
        let begun = Instant::now();
        let job: Value = server.get(&format!("/v1/videos/{id}"))?.json();
        if job["status"] != "in_progress" {
            break;
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(20));
    }
    times.sort_by(f64::total_cmp);
    let part = |share: f64| times.get((share * times.len() as f64) as usize).copied().unwrap_or(f64::INFINITY);
    println!("{} statuses while a clip is made: median {:.2} ms, p95 {:.2} ms", times.len(), part(0.5), part(0.95));
    assert!(times.len() >= 100, "it was over too soon");
    assert!(part(0.95) <= 20.0, "p95 is {} ms", part(0.95));
    Ok(())
}
