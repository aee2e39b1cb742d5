//! A language model behind the chat completions of an OpenAI-compatible API, local or not.

use std::time::Duration;

use serde_json::{Value, json};

use super::tidy;
use crate::failure::{Exit, Failure};

/// A local model may have to be loaded first.
const TIMEOUT: Duration = Duration::from_secs(120);

/// `prompt` as the language model rewrites it, told what its `task` is.
pub(super) fn ask(url: &str, model: &str, prompt: &str, seed: u64, task: &str) -> Result<String, Failure> {
    let failed = |problem: String| {
        Failure::new(Exit::Usage, "expand-failed", format!("`{model}` at {url} cannot expand the prompt: {problem}"))
            .hint("--expand-at takes the address before /chat/completions, --expand-model a model served there, $OPENAI_API_KEY its key")
    };
    let messages = json!([{ "role": "system", "content": task }, { "role": "user", "content": prompt }]);
    // As far as the service honours them, equal seeds give equal prompts.
    let body = json!({ "model": model, "messages": messages, "temperature": 0, "seed": seed });
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build().into();
    let mut request = agent.post(format!("{}/chat/completions", url.trim_end_matches('/')));
    if let Ok(key) = std::env::var("OPENAI_API_KEY") {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    let mut response = request.send_json(body).map_err(|error| failed(error.to_string()))?;
    let status = response.status();
    let text = response.body_mut().read_to_string().map_err(|error| failed(error.to_string()))?;
    if !status.is_success() {
        return Err(failed(format!("it answered {status}: {}", text.trim().chars().take(200).collect::<String>())));
    }
    let answer: Value = serde_json::from_str(&text).map_err(|error| failed(format!("its answer is no JSON: {error}")))?;
    let rewritten = tidy(answer["choices"][0]["message"]["content"].as_str().unwrap_or_default());
    if rewritten.is_empty() { Err(failed("its answer has no text at choices[0].message.content".into())) } else { Ok(rewritten) }
}
