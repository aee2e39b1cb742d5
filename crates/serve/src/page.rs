//! Files of a page (`--page`), and what is not found.
//!
//! Pages learn from a mark in their head that clips can be made here, so that none has to ask a server that may be none.

use std::path::{Component, Path, PathBuf};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, header},
    response::Response,
};

use crate::{
    http::{self, App, nowhere},
    server::Server,
};

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

/// The mark, which says whether a token is wanted.
fn marked(mut page: Vec<u8>, wants_token: bool) -> Vec<u8> {
    const HEAD: &[u8] = b"<head>";
    if let Some(at) = page.windows(HEAD.len()).position(|found| found.eq_ignore_ascii_case(HEAD)) {
        let mark = format!("<meta name=\"kinora-serve\" content=\"{}\">", if wants_token { "token" } else { "" });
        let after = at + HEAD.len();
        page.splice(after..after, mark.into_bytes());
    }
    page
}

async fn file_of_page(server: &Server, folder: &Path, path: &str) -> Option<Response> {
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
    let mut bytes = tokio::fs::read(&found).await.ok()?;
    if ending == "html" {
        bytes = marked(bytes, !server.tokens.is_empty());
    }
    let mut response = http::file(kind, bytes);
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
        && let Some(response) = file_of_page(&server, folder, &path).await
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
    fn pages_are_told_that_a_server_sent_them() {
        let page = |wants_token| String::from_utf8(marked(b"<html><HEAD><title>".to_vec(), wants_token)).unwrap();
        assert_eq!(page(false), r#"<html><HEAD><meta name="kinora-serve" content=""><title>"#);
        assert_eq!(page(true), r#"<html><HEAD><meta name="kinora-serve" content="token"><title>"#);
        assert_eq!(marked(b"a fragment".to_vec(), true), b"a fragment");
    }

    #[test]
    fn nothing_outside_the_folder_is_served() {
        for path in ["/../a", "/a/../../b", "//etc/passwd", "/%2e%2e/a", "/a\\..\\b", "/c:/x", "a"] {
            assert_eq!(inside(path), None, "{path}");
        }
        assert_eq!(inside("/a/b.js"), Some("a/b.js".into()));
        assert_eq!(inside("/"), Some("".into()));
    }
}
