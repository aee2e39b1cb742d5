//! `kinora eval`: one component of a model over tensors from a file.

use std::path::PathBuf;

use crate::{
    Report,
    args::EvalArgs,
    failure::{Exit, Failure},
    run,
};

pub(crate) fn eval(args: &EvalArgs) -> Result<Report, Failure> {
    let folder = component_folder(args)?;
    let json = run::eval(args, &folder)?;
    Ok(Report { text: args.outputs.display().to_string(), json })
}

/// The folder with `config.json`: `--model` itself, or the component inside a whole model.
fn component_folder(args: &EvalArgs) -> Result<PathBuf, Failure> {
    let missing = |message: String| Err(Failure::new(Exit::Model, "not-found", message));
    if !args.model.is_dir() {
        return missing(format!("--model: no folder `{}`; expected one with model_index.json or config.json", args.model.display()));
    }
    let whole = args.model.join("model_index.json").is_file();
    match &args.component {
        None if whole => {
            let message = format!("`{}` is a whole model; name one of its components", args.model.display());
            Err(Failure::new(Exit::Usage, "component-missing", message).hint("for example --component transformer"))
        }
        Some(component) if whole => {
            let folder = args.model.join(component);
            if folder.is_dir() {
                Ok(folder)
            } else {
                missing(format!("--component: `{}` has no folder `{component}`", args.model.display()))
            }
        }
        // A component's own folder may be named as well as found.
        _ => Ok(args.model.clone()),
    }
}
