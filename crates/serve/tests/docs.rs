//! Every command of docs/serving.md, in its order and in one folder, with the tiny model in the place of the built-in one.

#![cfg(unix)]

#[expect(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use support::{Folder, Outcome, tiny_model};

#[test]
fn every_command_of_the_page_works() -> Outcome {
    let folder = Folder::new("docs")?;
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/serving.md"))?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // The same flags for every model: few steps on the CPU twins.
    let bin = folder.0.join("bin");
    fs::create_dir(&bin)?;
    let real = Path::new(env!("CARGO_BIN_EXE_kinora-serve")).with_file_name("kinora");
    let (kinora, model) = (real.display(), tiny_model().display().to_string());
    let script = format!(
        "#!/bin/sh\ncase $1 in\nserve) exec '{kinora}' \"$@\" --listen 127.0.0.1:{port} --model '{model}' -- --executor cpu --steps 2;;\n\
         *) exec '{kinora}' \"$@\" --executor cpu --model '{model}' --steps 2;;\nesac\n"
    );
    fs::write(bin.join("kinora"), script)?;
    fs::set_permissions(bin.join("kinora"), fs::Permissions::from_mode(0o755))?;
    let page = page.replace("127.0.0.1:8321", &format!("127.0.0.1:{port}"));
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 7, "{} blocks", blocks.len());
    let text = format!("set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}", blocks.join("\n"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    fs::create_dir(folder.0.join("work"))?;
    let output =
        Command::new("bash").args(["-c", &text]).env("PATH", path).env("KINORA_FFMPEG", "").current_dir(folder.0.join("work")).output()?;
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(folder.0.join("work/fox.mp4").is_file(), "{said}\n{complained}");
    Ok(())
}
