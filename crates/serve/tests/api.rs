//! The server from outside: what clients of `OpenAI`'s API see, what is refused, what survives.

mod support;

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Folder, Outcome, Server, command, small, tiny_model};

#[test]
fn a_clip_is_created_watched_fetched_and_deleted() -> Outcome {
    let folder = Folder::new("life")?;
    let server = Server::start(&folder.0, &["--preview-every", "1"])?;
    let created = server.create(&small(7))?;
    let job = created.json();
    assert_eq!(created.status, 200, "{job}");
    assert_eq!((&job["object"], &job["model"], &job["size"]), (&json!("video"), &json!("tiny-model"), &json!("32x32")), "{job}");
    let id = job["id"].as_str().ok_or("no id")?.to_owned();
    let events = String::from_utf8(server.get(&format!("/v1/videos/{id}/events"))?.body)?;
    assert!(events.contains("event: completed\ndata: {"), "{events}");
    let done = server.over(&id)?;
    assert_eq!((&done["status"], &done["progress"], &done["seconds"]), (&json!("completed"), &json!(100), &json!("0.4")), "{done}");
    let content = server.get(&format!("/v1/videos/{id}/content"))?;
    assert_eq!((content.status, content.header("content-type")), (200, Some("video/mp4")));
    assert_eq!(&content.body[4..8], b"ftyp", "an MP4");
    let part = server.ask("GET", &format!("/v1/videos/{id}/content"), &[("Range", "bytes=4-7")], b"")?;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"ftyp"[..]), "{}", part.head);
    let past = server.ask("GET", &format!("/v1/videos/{id}/content"), &[("Range", "bytes=99999999-")], b"")?;
    assert_eq!(past.status, 416, "beyond its end");
    let second = server.create(&small(8))?.json()["id"].clone();
    let list = server.get("/v1/videos?limit=1")?.json();
    assert_eq!((&list["first_id"], &list["has_more"]), (&second, &json!(true)), "{list}");
    let list = server.get(&format!("/v1/videos?after={}", second.as_str().unwrap_or_default()))?.json();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(server.get("/v1/models")?.json()["data"][0]["id"], "tiny-model");
    assert_eq!(server.get("/v1/models/other")?.status, 404);
    assert_eq!(server.get("/healthz")?.body, b"ok\n");
    let metrics = String::from_utf8(server.get("/metrics")?.body)?;
    assert!(metrics.contains("kinora_ended_total{status=\"completed\"} 1"), "{metrics}");
    let deleted = server.ask("DELETE", &format!("/v1/videos/{id}"), &[], b"")?.json();
    assert_eq!((&deleted["deleted"], &deleted["object"]), (&json!(true), &json!("video.deleted")), "{deleted}");
    assert_eq!(server.get(&format!("/v1/videos/{id}"))?.status, 404);
    assert!(!folder.0.join("clips").join(format!("{id}.mp4")).exists(), "its file is gone");
    Ok(())
}

#[test]
fn what_cannot_be_made_is_refused_with_the_reason() -> Outcome {
    let folder = Folder::new("refused")?;
    let server = Server::start(&folder.0, &["--max-body", "100000"])?;
    let with = |key: &str, value: Value| {
        let mut body = small(1);
        body[key] = value;
        body
    };
    for (body, param, part) in [
        (with("size", json!("33x33")), Value::Null, "33"),
        (with("size", json!("32000x32000")), Value::Null, "32000"),
        (with("seconds", json!("long")), json!("seconds"), "number"),
        (with("steps", json!(-1)), json!("steps"), "whole number"),
        (with("steps", json!(5000)), Value::Null, "5000"),
        (with("model", json!("sora-2")), json!("model"), "tiny-model"),
        (with("input_reference", json!({ "image_url": "http://127.0.0.1:1/x.png" })), json!("input_reference"), "not opened"),
        (with("input_reference", json!("/etc/passwd")), json!("input_reference"), "not opened"),
        (with("image", json!("/etc/passwd")), json!("image"), "no such field"),
        (with("promptFile", json!("/etc/passwd")), json!("promptFile"), "no such field"),
        (with("prompt", json!("a\u{0}b")), json!("prompt"), "control character"),
        (with("prompt", json!("a".repeat(20_000))), json!("prompt"), "longer"),
        (json!({ "seed": 1 }), json!("prompt"), "missing"),
    ] {
        let answer = server.create(&body)?;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["param"]), (400, &param), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(part)), "`{part}` in {error}");
    }
    let raw = |kind: &str, body: &[u8]| server.ask("POST", "/v1/videos", &[("Content-Type", kind)], body).map(|answer| answer.status);
    assert_eq!(raw("application/json", b"{")?, 400);
    assert_eq!(raw("application/json", b"[1]")?, 400);
    assert_eq!(raw("application/json", &vec![b' '; 70_000])?, 413);
    assert_eq!(raw("text/plain", b"{}")?, 415);
    assert_eq!(raw("multipart/form-data; boundary=x", b"--y")?, 400);
    assert_eq!(server.form(&[("prompt", "a")], &vec![0; 200_000])?.status, 413);
    assert_eq!(server.form(&[("prompt", "a")], b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")?.status, 400, "a playlist");
    assert_eq!(server.form(&[("prompt", "a"), ("prompt", "b")], b"\x89PNG\r\n\x1a\n")?.status, 400, "a field twice");
    assert_eq!(server.form(&[("prompt", "a")], b"\x89PNG\r\n\x1a\nno picture")?.status, 400, "a broken image");
    assert_eq!(server.ask("PUT", "/v1/videos", &[], b"")?.status, 405);
    for path in ["/", "/v1/videos/x", "/v1/videos/..%2f..%2fetc%2fpasswd/content", "/../../etc/passwd", "/v1/nothing"] {
        assert_eq!(server.get(path)?.status, 404, "{path}");
    }
    for headers in [[("Host", "evil.example")], [("Origin", "http://evil.example")]] {
        assert_eq!(server.create_with(&small(1), &headers)?.status, 403, "{headers:?}");
    }
    assert_eq!(fs::read_dir(folder.0.join("inputs"))?.count(), 0, "what was refused is not kept");
    Ok(())
}

#[test]
fn an_image_comes_as_a_file() -> Outcome {
    let folder = Folder::new("image")?;
    let server = Server::start(&folder.0, &[])?;
    let png = folder.0.join("start.png");
    let kinora = std::path::Path::new(env!("CARGO_BIN_EXE_kinora-serve")).with_file_name("kinora");
    let words = ["generate", "a", "--executor", "cpu", "--frames", "1", "--steps", "1", "-q", "--format", "apng", "-o"];
    assert!(Command::new(kinora).args(words).arg(&png).arg("-m").arg(tiny_model()).stdout(Stdio::null()).status()?.success());
    let answer =
        server.form(&[("prompt", "a fox"), ("seconds", "0.4"), ("size", "32x32"), ("steps", "2"), ("seed", "3")], &fs::read(&png)?)?;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let id = answer.json()["id"].as_str().ok_or("no id")?.to_owned();
    assert_eq!(server.over(&id)?["status"], "completed");
    assert!(fs::read_dir(folder.0.join("inputs"))?.count() == 1, "kept for a restart");
    server.ask("DELETE", &format!("/v1/videos/{id}"), &[], b"")?;
    assert_eq!(fs::read_dir(folder.0.join("inputs"))?.count(), 0, "and gone with its job");
    Ok(())
}

#[test]
fn tokens_part_owners_and_a_full_queue_says_when_to_come_back() -> Outcome {
    let folder = Folder::new("tokens")?;
    fs::write(folder.0.join("tokens"), "token-of-alice\ntoken-of-bob\n")?;
    let tokens = folder.0.join("tokens");
    let words = ["--token-file", tokens.to_str().unwrap_or_default(), "--queue", "2", "--at-once", "1"];
    let server = Server::start(&folder.0, &words)?;
    let [alice, bob] = ["Bearer token-of-alice", "Bearer token-of-bob"].map(|token| [("Authorization", token)]);
    assert_eq!((server.create(&small(1))?.status, server.get("/metrics")?.status), (401, 401), "without a token");
    assert_eq!(server.create_with(&small(1), &[("Authorization", "Bearer token-of-carol")])?.status, 401);
    assert_eq!(server.get("/healthz")?.status, 200, "for who watches it");
    let long = json!({ "prompt": "a fox", "steps": 1000, "size": "32x32", "seconds": "0.4" });
    let running = server.create_with(&long, &alice)?.json()["id"].as_str().ok_or("no id")?.to_owned();
    let begun = Instant::now();
    let state = |id: &str, headers: &[(&str, &str)]| server.ask("GET", &format!("/v1/videos/{id}"), headers, b"");
    while state(&running, &alice)?.json()["status"] != "in_progress" {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never begins");
        sleep(Duration::from_millis(20));
    }
    let waiting: Vec<u16> = (0..3).map(|seed| server.create_with(&small(seed), &alice).map_or(0, |answer| answer.status)).collect();
    assert_eq!(waiting, [200, 200, 429], "two may wait");
    let full = server.create_with(&small(9), &alice)?;
    assert!(full.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok()).is_some_and(|seconds| seconds > 0), "{}", full.head);
    assert_eq!(server.create_with(&small(1), &bob)?.status, 200, "another owner has a queue of its own");
    assert_eq!(state(&running, &bob)?.status, 404, "and does not see the jobs of the first");
    let deleted = server.ask("DELETE", &format!("/v1/videos/{running}"), &alice, b"")?;
    assert_eq!((deleted.status, state(&running, &alice)?.status), (200, 404), "what runs can be cancelled");
    let left = |headers: &[(&str, &str)]| Ok::<_, Box<dyn std::error::Error>>(server.ask("GET", "/v1/videos", headers, b"")?.json());
    while left(&alice)?["data"].as_array().into_iter().flatten().any(|job| job["status"] != "completed") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", left(&alice)?);
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn jobs_survive_a_kill_and_a_stop() -> Outcome {
    let folder = Folder::new("restart")?;
    let mut server = Server::start(&folder.0, &["--at-once", "1"])?;
    let ids: Vec<String> =
        (0..5).map(|seed| Ok(server.create(&small(seed))?.json()["id"].as_str().ok_or("no id")?.to_owned())).collect::<Outcome<_>>()?;
    server.over(&ids[0])?;
    server.child.kill()?;
    server.child.wait()?;
    let server = Server::start(&folder.0, &["--at-once", "1", "--grace", "20"])?;
    assert_eq!(server.over(&ids[1])?["status"], "completed");
    assert_eq!(server.stop()?, Some(0), "a stop ends well");
    let server = Server::start(&folder.0, &[])?;
    for id in &ids {
        assert_eq!(server.over(id)?["status"], "completed", "{id}");
        assert_eq!(server.get(&format!("/v1/videos/{id}/content"))?.status, 200, "{id}");
    }
    assert_eq!(fs::read_dir(folder.0.join("clips"))?.count(), 5, "each once");
    Ok(())
}

#[test]
fn clips_expire_and_the_disk_has_a_limit() -> Outcome {
    let folder = Folder::new("expiry")?;
    let server = Server::start(&folder.0, &["--keep", "2", "--disk", "1"])?;
    let id = server.create(&small(1))?.json()["id"].as_str().ok_or("no id")?.to_owned();
    server.over(&id)?;
    let full = server.create(&small(2))?;
    assert_eq!((full.status, full.json()["error"]["code"].as_str()), (507, Some("disk_full")), "{}", full.json());
    assert!(full.header("retry-after").is_some(), "{}", full.head);
    let begun = Instant::now();
    while server.get(&format!("/v1/videos/{id}"))?.status != 404 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never expires");
        sleep(Duration::from_millis(200));
    }
    assert_eq!((fs::read_dir(folder.0.join("clips"))?.count(), server.create(&small(3))?.status), (0, 200), "there is room again");
    Ok(())
}

#[test]
fn beyond_this_machine_a_token_is_needed() -> Outcome {
    let folder = Folder::new("beyond")?;
    let output = command(&folder.0, &["--listen", "0.0.0.0:0"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("--token-file"), "{said}");
    let output = command(&folder.0, &["--token", "short"]).output()?;
    assert!(String::from_utf8_lossy(&output.stderr).contains("shorter than 8"), "short tokens are guessed");
    Ok(())
}

#[test]
fn a_page_is_served_from_its_folder_alone() -> Outcome {
    let folder = Folder::new("page")?;
    fs::create_dir(folder.0.join("www"))?;
    fs::write(folder.0.join("www/index.html"), "<p>hello")?;
    fs::write(folder.0.join("secret"), "secret")?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", folder.0.join("www/link"))?;
    let www = folder.0.join("www");
    let server = Server::start(&folder.0.join("data"), &["--page", www.to_str().unwrap_or_default()])?;
    let page = server.get("/")?;
    assert_eq!(
        (page.status, page.body.as_slice(), page.header("cross-origin-opener-policy")),
        (200, &b"<p>hello"[..], Some("same-origin"))
    );
    for path in ["/../secret", "/link", "/%2e%2e/secret", "/none.js"] {
        assert_eq!(server.get(path)?.status, 404, "{path}");
    }
    Ok(())
}
