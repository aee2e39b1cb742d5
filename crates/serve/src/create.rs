//! `POST /v1/videos`: what a client may ask for, checked here for its form and by the planner for what it means.
//!
//! Fields are a closed list, and each becomes a value of one flag: nothing in a request is a path or an address that is opened.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::{FromRequest as _, Multipart, Request, State, multipart::MultipartError},
    http::{StatusCode, header},
    response::Response,
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{
    http::{App, Owner, Problem, answer},
    images,
    job::{Job, Status},
    server::{Refusal, Server, now},
};

/// Bytes of a request without an image.
const MAX_JSON_BYTES: usize = 64 << 10;
/// No text encoder reads more.
const MAX_PROMPT_CHARS: usize = 10_000;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The fields of a request and the image that came with it.
struct Asked {
    fields: Map<String, Value>,
    image: Option<Vec<u8>>,
}

pub(crate) async fn create(State(server): App, Extension(Owner(owner)): Extension<Owner>, request: Request) -> Result<Response, Problem> {
    let place = server.place(&owner).map_err(|refusal| refused(&server, &refusal))?;
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", format!("the body took more than {} s", PATIENCE.as_secs()));
    let asked = timeout(PATIENCE, read(request, &server)).await.map_err(late)??;
    let id = Server::new_id().map_err(|problem| Problem::unavailable(&problem))?;
    let mut line = line(&asked.fields, &server)?;
    line.insert("output".into(), format!("{id}.mp4").into());
    let input = match &asked.image {
        None => None,
        Some(bytes) => {
            let wrong = || Problem::bad("input_reference", "it is none of PNG, JPEG, WebP and GIF");
            Some(format!("{id}.{}", images::ending(bytes).ok_or_else(wrong)?))
        }
    };
    if let (Some(name), Some(bytes)) = (&input, &asked.image) {
        server.keep_input(name, bytes).await.map_err(|error| Problem::unavailable(&format!("cannot write an input: {error}")))?;
        line.insert("image".into(), format!("../inputs/{name}").into());
    }
    let created = accept(&server, owner, id, line, asked, place).await;
    if let (Err(_), Some(name)) = (&created, &input) {
        server.drop_input(name).await;
    }
    created
}

async fn accept(
    server: &Arc<Server>,
    owner: String,
    id: String,
    line: Map<String, Value>,
    asked: Asked,
    place: crate::server::Place<'_>,
) -> Result<Response, Problem> {
    let planned = server.planner.plan(&line).await.map_err(|problem| Problem::unavailable(&problem))?;
    if let Some(error) = planned.get("error") {
        return Err(impossible(error));
    }
    let clip = &planned["clip"];
    let number = |key: &str| clip[key].as_u64().unwrap_or_default();
    let pixels = [number("width"), number("height"), number("frames")].into_iter().fold(1u64, u64::saturating_mul);
    if pixels > server.args.max_pixels {
        let message = format!("the clip would have {pixels} pixels in all its frames; this server allows {}", server.args.max_pixels);
        return Err(Problem::bad("size", message));
    }
    let seconds = number("frames") as f64 / clip["fps"].as_f64().unwrap_or(1.0);
    let job = Job {
        number: 0,
        id,
        owner,
        model: model_name(server),
        prompt: asked.fields["prompt"].as_str().unwrap_or_default().to_owned(),
        size: format!("{}x{}", number("width"), number("height")),
        // As it was asked for: clients compare.
        seconds: asked.fields.get("seconds").map_or_else(|| format!("{seconds:.2}"), plain),
        seed: line["seed"].as_u64().unwrap_or_default(),
        line,
        status: Status::Queued,
        created_at: now(),
        completed_at: None,
        expires_at: None,
        failure: None,
        bytes: asked.image.map_or(0, |image| image.len() as u64),
        progress: 0.0,
        preview: None,
        crashes: 0,
    };
    let shown = server.add(job, place).await.map_err(|problem| Problem::unavailable(&problem))?;
    Ok(answer(StatusCode::OK, &shown))
}

fn refused(server: &Server, refusal: &Refusal) -> Problem {
    server.metrics.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    match *refusal {
        Refusal::QueueFull { retry_after } => {
            let message = format!("{} jobs of this token wait already; try again later", server.args.queue);
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message).retry_after(retry_after)
        }
        Refusal::DiskFull { retry_after } => {
            let message = "the clips that are kept fill the disk quota; delete some, or wait until they expire";
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message).retry_after(retry_after)
        }
    }
}

/// What the planner says of a line that cannot be made.
fn impossible(error: &Value) -> Problem {
    let text = |key: &str| error[key].as_str().unwrap_or_default();
    let message = if text("hint").is_empty() { text("message").to_owned() } else { format!("{}; {}", text("message"), text("hint")) };
    match error["exit"].as_u64() {
        // No fault of the request.
        _ if ["encoder-failed", "output-failed"].contains(&text("code")) => Problem::unavailable(&message),
        // Usage, memory, and a format that cannot hold it.
        Some(2 | 5 | 6) => Problem::new(StatusCode::BAD_REQUEST, text("code"), message),
        _ => Problem::unavailable(&message),
    }
}

async fn read(request: Request, server: &Arc<Server>) -> Result<Asked, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, server).await;
        return read_form(form.map_err(|error| Problem::new(error.status(), "bad_form", error.body_text()))?).await;
    }
    if !kind.is_empty() && !kind.starts_with("application/json") {
        let message = "expected application/json or multipart/form-data";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    read_json(request.into_body()).await
}

async fn read_json(body: Body) -> Result<Asked, Problem> {
    let long = |_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body is longer than {MAX_JSON_BYTES} bytes, or broke off"))
    };
    let bytes = to_bytes(body, MAX_JSON_BYTES).await.map_err(long)?;
    let fields = serde_json::from_slice::<Map<String, Value>>(&bytes)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is no JSON object: {error}")))?;
    Ok(Asked { fields, image: None })
}

async fn read_form(mut form: Multipart) -> Result<Asked, Problem> {
    let broken = |error: MultipartError| Problem::new(error.status(), "bad_form", error.body_text());
    let mut asked = Asked { fields: Map::new(), image: None };
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(broken)?;
        let again = if name == "input_reference" {
            asked.image.replace(bytes.to_vec()).is_some()
        } else {
            if bytes.len() > MAX_JSON_BYTES {
                return Err(Problem::bad(&name, format!("it is longer than {MAX_JSON_BYTES} bytes")));
            }
            let text = String::from_utf8(bytes.to_vec()).map_err(|_| Problem::bad(&name, "it is not UTF-8"))?;
            asked.fields.insert(name.clone(), text.into()).is_some()
        };
        if again {
            return Err(Problem::bad(&name, "it stands there twice"));
        }
    }
    Ok(asked)
}

/// Text and numbers without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn model_name(server: &Server) -> String {
    server.args.model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
}

/// The line that the worker is told, but for its files.
fn line(fields: &Map<String, Value>, server: &Server) -> Result<Map<String, Value>, Problem> {
    let mut line = Map::new();
    for (name, value) in fields {
        // What a client does not set it may send as null.
        if value.is_null() {
            continue;
        }
        let (flag, value) = match name.as_str() {
            "model" => {
                let known = model_name(server);
                if plain(value) != known {
                    let message = format!("this server has the model `{known}` alone");
                    return Err(Problem::bad("model", message));
                }
                continue;
            }
            "prompt" => ("prompt", text(name, value, MAX_PROMPT_CHARS)?.into()),
            "negative_prompt" => ("negative", text(name, value, MAX_PROMPT_CHARS)?.into()),
            "size" => ("size", text(name, value, 20)?.into()),
            "seconds" => ("duration", number(name, value)?.into()),
            "guidance" => ("guidance", number(name, value)?.into()),
            "seed" | "steps" | "frames" => (name.as_str(), whole(name, value)?.into()),
            "input_reference" => return Err(Problem::bad(name, "an image comes as a file of a form; addresses and ids are not opened")),
            _ => {
                let known = "prompt, model, size, seconds, seed, input_reference, negative_prompt, steps, guidance, frames";
                return Err(Problem::bad(name, format!("there is no such field; known are {known}")));
            }
        };
        line.insert(flag.to_owned(), value);
    }
    if !line.contains_key("prompt") {
        return Err(Problem::bad("prompt", "it is missing"));
    }
    let seed = Server::new_id().map_err(|problem| Problem::unavailable(&problem))?;
    // Exact in every JSON reader.
    let chosen = u64::from_str_radix(seed.get(6..14).unwrap_or_default(), 16).unwrap_or_default();
    line.entry("seed").or_insert_with(|| json!(chosen));
    Ok(line)
}

fn text(name: &str, value: &Value, most: usize) -> Result<String, Problem> {
    let text = value.as_str().ok_or_else(|| Problem::bad(name, "expected text"))?;
    if text.chars().count() > most {
        return Err(Problem::bad(name, format!("it is longer than {most} characters")));
    }
    match text.chars().find(|character| character.is_control() && !"\n\r\t".contains(*character)) {
        Some(control) => Err(Problem::bad(name, format!("it holds the control character {control:?}"))),
        None => Ok(text.to_owned()),
    }
}

/// A number, or the text of one as forms and `OpenAI`'s `seconds` have it.
fn number(name: &str, value: &Value) -> Result<f64, Problem> {
    let found = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    found.filter(|number: &f64| number.is_finite()).ok_or_else(|| Problem::bad(name, "expected a number"))
}

fn whole(name: &str, value: &Value) -> Result<u64, Problem> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok()).ok_or_else(|| Problem::bad(name, "expected a whole number from 0 on"))
}
