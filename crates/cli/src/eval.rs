//! `kinora eval`: one component of a model over tensors from a file.

use serde_json::json;

use crate::{
    Report,
    args::EvalArgs,
    failure::{Exit, Failure},
    run,
};

pub(crate) fn eval(args: &EvalArgs) -> Result<Report, Failure> {
    for (what, path) in [("model", &args.model), ("inputs", &args.inputs)] {
        if !path.exists() {
            let message = format!("--{what}: `{}` does not exist", path.display());
            return Err(Failure::new(Exit::Model, "not-found", message));
        }
    }
    if !args.model.is_dir() {
        let message = format!("--model: `{}` is a file; expected a folder with model_index.json or config.json", args.model.display());
        return Err(Failure::new(Exit::Model, "not-found", message));
    }
    run::eval(args)?;
    Ok(Report { text: args.outputs.display().to_string(), json: json!({ "outputs": args.outputs }) })
}
