//! Routes, who may use them, and errors in the form of `OpenAI`'s API.

use std::{sync::Arc, sync::atomic::Ordering::Relaxed};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{args::owner, create, events, metrics, page, server::Server, videos};

pub(crate) type App = State<Arc<Server>>;

/// Whose jobs a request is about: the hash of its token, nothing without tokens.
#[derive(Clone)]
pub(crate) struct Owner(pub(crate) String);

/// Why a request is not answered as it wants.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: String,
    message: String,
    param: Option<String>,
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), param: None, retry_after: None }
    }

    pub(crate) fn bad(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message) }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no video of this id, or it has expired")
    }

    /// The store or another program failed, which is no fault of the request.
    pub(crate) fn unavailable(problem: &str) -> Self {
        eprintln!("error: {problem}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server cannot do this now; its log says why").retry_after(5)
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = json!({ "message": self.message, "type": kind, "param": self.param, "code": self.code });
        let mut response = answer(self.status, &json!({ "error": error }));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub(crate) fn answer(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

pub(crate) fn router(server: Arc<Server>) -> Router {
    let api = Router::new()
        .route("/v1/videos", post(create::create).get(videos::list))
        .route("/v1/videos/{id}", get(videos::find).delete(videos::remove))
        .route("/v1/videos/{id}/content", get(videos::content))
        .route("/v1/videos/{id}/events", get(events::events))
        .route("/v1/models", get(videos::models))
        .route("/v1/models/{id}", get(videos::model))
        .route("/metrics", get(async |State(server): App| metrics::text(&server)))
        .layer(DefaultBodyLimit::max(server.args.max_body))
        .layer(middleware::from_fn_with_state(server.clone(), check_token));
    api.route("/healthz", get(async || "ok\n"))
        .fallback(page::file)
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "not by this method"))
        .layer(middleware::from_fn_with_state(server.clone(), check_origin))
        .with_state(server)
}

/// Requests without a token come from this machine, but a page of any site can send them. Such a page has another origin or, where
/// its name was made to lead here, another host.
async fn check_origin(State(server): App, request: Request, next: Next) -> Response {
    server.metrics.requests.fetch_add(1, Relaxed);
    if server.tokens.is_empty() && !is_local(request.headers()) {
        let message = "without tokens this server answers requests of this machine alone; give it --token";
        return Problem::new(StatusCode::FORBIDDEN, "foreign_origin", message).into_response();
    }
    next.run(request).await
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().unwrap_or("?").to_ascii_lowercase();
    // HTTP/1.0 has none, and no browser speaks it.
    let Some(host) = headers.get(header::HOST).map(text) else { return !headers.contains_key(header::ORIGIN) };
    let name = if host.ends_with(']') { &host } else { host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name) };
    let known = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
    known && headers.get(header::ORIGIN).map(text).is_none_or(|origin| origin == format!("http://{host}"))
}

async fn check_token(State(server): App, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Equal hashes are compared in the time they take; an attacker does not choose them byte by byte.
    let given = given.map(|token| owner(token.trim()));
    let known = match given {
        _ if server.tokens.is_empty() => Some(String::new()),
        given => given.filter(|hash| server.tokens.contains(hash)),
    };
    let Some(known) = known else {
        let message = "this server needs a token: Authorization: Bearer TOKEN";
        let mut response = Problem::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    };
    request.extensions_mut().insert(Owner(known));
    next.run(request).await
}

/// What no route and no file of the page answers.
pub(crate) fn nowhere(method: &Method, path: &str) -> Response {
    let shown: String = path.chars().take(100).collect();
    Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {method} {shown}")).into_response()
}

/// A file with its kind and length.
pub(crate) fn file(kind: &'static str, bytes: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], bytes.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_by_their_origin_or_host() {
        let local = |pairs: &[(header::HeaderName, &'static str)]| {
            is_local(&pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect())
        };
        for host in ["localhost:8321", "127.0.0.1:8321", "[::1]:8321", "[::1]", "LOCALHOST"] {
            assert!(local(&[(header::HOST, host)]), "{host}");
        }
        assert!(local(&[(header::HOST, "localhost:1"), (header::ORIGIN, "http://localhost:1")]), "its own page");
        for host in ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "10.0.0.1:8321"] {
            assert!(!local(&[(header::HOST, host)]), "{host}");
        }
        for origin in ["http://evil.example", "null", "http://localhost:2", "https://localhost:1"] {
            assert!(!local(&[(header::HOST, "localhost:1"), (header::ORIGIN, origin)]), "{origin}");
        }
    }
}
