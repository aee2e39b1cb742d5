//! Files of a page (`--page`), and what is not found.

use std::path::{Component, Path, PathBuf};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, header},
    response::Response,
};

use crate::http::{self, App, nowhere};

const KINDS: [(&str, &str); 12] = [
    ("css", "text/css"),
    ("gif", "image/gif"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("mp4", "video/mp4"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("mjs", "text/javascript"),
];

async fn file_of_page(folder: &Path, path: &str) -> Option<Response> {
    let path = inside(path)?;
    let mut found = folder.join(path);
    if tokio::fs::metadata(&found).await.ok()?.is_dir() {
        found.push("index.html");
    }
    // A link inside the folder may lead out of it.
    let (folder, found) = (tokio::fs::canonicalize(folder).await.ok()?, tokio::fs::canonicalize(&found).await.ok()?);
    if !found.starts_with(&folder) {
        return None;
    }
    let ending = found.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let kind = KINDS.iter().find(|(known, _)| *known == ending).map_or("application/octet-stream", |(_, kind)| *kind);
    let mut response = http::file(kind, tokio::fs::read(&found).await.ok()?);
    // Threads and precise clocks of a page need both.
    for (name, value) in [("cross-origin-opener-policy", "same-origin"), ("cross-origin-embedder-policy", "require-corp")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

pub(crate) async fn file(State(server): App, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if let (Some(folder), true) = (&server.args.page, method == Method::GET || method == Method::HEAD)
        && let Some(response) = file_of_page(folder, &path).await
    {
        return response;
    }
    nowhere(&method, &path)
}

/// The path of an address below a folder: names alone, without escapes, since no file of a page needs one.
fn inside(path: &str) -> Option<PathBuf> {
    let path = Path::new(path.strip_prefix('/')?);
    let named = path.components().all(|part| matches!(part, Component::Normal(_)));
    (named && !path.to_str()?.contains(['%', '\\', ':', '\0'])).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_served() {
        for path in ["/../a", "/a/../../b", "//etc/passwd", "/%2e%2e/a", "/a\\..\\b", "/c:/x", "a"] {
            assert_eq!(inside(path), None, "{path}");
        }
        assert_eq!(inside("/a/b.js"), Some("a/b.js".into()));
        assert_eq!(inside("/"), Some("".into()));
    }
}
