//! What is told of jobs and models, and the clips themselves.

use axum::{
    Extension,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use crate::{
    create::model_name,
    http::{App, Owner, Problem, answer, file},
    job::{Job, Status},
};

/// Of a clip that is sent, at a time.
const CHUNK_BYTES: usize = 64 << 10;
const MAX_LISTED: usize = 100;

#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct Listing {
    after: Option<String>,
    limit: usize,
    order: String,
}

impl Default for Listing {
    fn default() -> Self {
        Self { after: None, limit: 20, order: "desc".into() }
    }
}

#[derive(Deserialize)]
pub(crate) struct Variant {
    variant: Option<String>,
}

type Result<T = Response> = std::result::Result<T, Problem>;

pub(crate) async fn list(
    State(server): App,
    Extension(Owner(owner)): Extension<Owner>,
    listing: std::result::Result<Query<Listing>, axum::extract::rejection::QueryRejection>,
) -> Result {
    let Query(listing) = listing.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invalid_query", error.body_text()))?;
    let newest_first = match listing.order.as_str() {
        "desc" => true,
        "asc" => false,
        _ => return Err(Problem::bad("order", "expected asc or desc")),
    };
    if !(1..=MAX_LISTED).contains(&listing.limit) {
        return Err(Problem::bad("limit", format!("expected 1 to {MAX_LISTED}")));
    }
    let found = server.list(&owner, listing.after.as_deref(), listing.limit, newest_first);
    let (jobs, more) = found.ok_or_else(|| Problem::bad("after", "there is no video of this id"))?;
    let [first, last] = [jobs.first(), jobs.last()].map(|job| job.map(|job| job.id.clone()));
    let data: Vec<Value> = jobs.iter().map(Job::to_json).collect();
    Ok(answer(StatusCode::OK, &json!({ "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more })))
}

pub(crate) async fn find(State(server): App, Extension(Owner(owner)): Extension<Owner>, Path(id): Path<String>) -> Result {
    let job = server.find(&owner, &id).ok_or_else(Problem::not_found)?;
    Ok(answer(StatusCode::OK, &job.to_json()))
}

pub(crate) async fn remove(State(server): App, Extension(Owner(owner)): Extension<Owner>, Path(id): Path<String>) -> Result {
    match server.remove(&owner, &id).await {
        Ok(true) => Ok(answer(StatusCode::OK, &json!({ "id": id, "object": "video.deleted", "deleted": true }))),
        Ok(false) => Err(Problem::not_found()),
        Err(problem) => Err(Problem::unavailable(&problem)),
    }
}

pub(crate) async fn content(
    State(server): App,
    Extension(Owner(owner)): Extension<Owner>,
    Path(id): Path<String>,
    variant: std::result::Result<Query<Variant>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result {
    let Query(Variant { variant }) = variant.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invalid_query", error.body_text()))?;
    let job = server.find(&owner, &id).ok_or_else(Problem::not_found)?;
    match variant.as_deref() {
        None | Some("video") => {}
        Some("thumbnail") => {
            let preview = job.preview.and_then(|preview| BASE64_STANDARD.decode(preview).ok());
            return preview.map(|png| file("image/png", png)).ok_or_else(|| {
                Problem::new(StatusCode::NOT_FOUND, "no_preview", "there is a preview while the clip is made, if it is made by itself")
            });
        }
        Some(_) => return Err(Problem::bad("variant", "expected video, or thumbnail while it is made")),
    }
    match job.status {
        Status::Completed => send(&server.clip_path(&job), &headers).await,
        Status::Failed => {
            let message = job.failure.map(|failure| failure.message).unwrap_or_default();
            Err(Problem::new(StatusCode::CONFLICT, "failed", format!("the clip could not be made: {message}")))
        }
        Status::Queued | Status::InProgress => {
            Err(Problem::new(StatusCode::CONFLICT, "not_ready", "the clip is not made yet").retry_after(1))
        }
    }
}

/// A file, or the part of it that a player asks for, in chunks.
async fn send(path: &std::path::Path, headers: &HeaderMap) -> Result {
    let failed = |error: std::io::Error| Problem::unavailable(&format!("cannot read `{}`: {error}", path.display()));
    let mut clip = File::open(path).await.map_err(failed)?;
    let length = clip.metadata().await.map_err(failed)?.len();
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes="));
    // Several parts at once are answered by the whole, as the standard allows.
    let part = asked.filter(|part| !part.contains(',')).and_then(|part| part.split_once('-')).and_then(|(from, to)| {
        let end = to.parse().unwrap_or(u64::MAX).min(length.saturating_sub(1));
        match from.parse::<u64>() {
            Ok(from) => Some((from, end)),
            Err(_) => Some((length.saturating_sub(to.parse().ok()?), length.saturating_sub(1))),
        }
    });
    let (from, end) = part.unwrap_or((0, length.saturating_sub(1)));
    if from > end || from >= length.max(1) {
        let mut response = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", "the clip is shorter").into_response();
        response.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{length}")));
        return Ok(response);
    }
    clip.seek(std::io::SeekFrom::Start(from)).await.map_err(failed)?;
    let count = (end + 1 - from).min(length);
    let chunks = stream::try_unfold(clip.take(count), |mut clip| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = clip.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then_some((chunk, clip)))
    });
    let mut response = file("video/mp4", Body::from_stream(chunks));
    let sent = response.headers_mut();
    sent.insert(header::CONTENT_LENGTH, count.into());
    sent.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if part.is_some() {
        sent.insert(header::CONTENT_RANGE, value(&format!("bytes {from}-{end}/{length}")));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn described(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "kinora" })
}

pub(crate) async fn models(State(server): App) -> Response {
    answer(StatusCode::OK, &json!({ "object": "list", "data": [described(&model_name(&server))] }))
}

pub(crate) async fn model(State(server): App, Path(id): Path<String>) -> Result {
    let name = model_name(&server);
    match id == name {
        true => Ok(answer(StatusCode::OK, &described(&name))),
        false => Err(Problem::new(StatusCode::NOT_FOUND, "model_not_found", format!("this server has the model `{name}` alone"))),
    }
}
