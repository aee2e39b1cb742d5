//! `kinora-bindgen MODULE.wasm FOLDER`: the JavaScript glue and the module without its custom sections.

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use wasm_bindgen_cli_support::Bindgen;

const NAME: &str = "core";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [module, folder] = arguments.as_slice() else {
        eprintln!("usage: kinora-bindgen MODULE.wasm FOLDER");
        return ExitCode::from(2);
    };
    match generate(Path::new(module), Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kinora-bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn generate(module: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name(NAME).typescript(true).remove_name_section(true).remove_producers_section(true);
    let mut output = bindgen.web(true)?.generate_output()?;
    // Two hundred names of imports end in 16 random digits each, which no compression makes smaller.
    let mut renamed = Vec::new();
    for (index, import) in output.wasm_mut().imports.iter_mut().enumerate() {
        let short = format!("i{index}");
        renamed.push((std::mem::replace(&mut import.name, short.clone()), short));
    }
    output.emit(folder)?;
    let path = folder.join(format!("{NAME}.js"));
    let mut glue = fs::read_to_string(&path)?;
    for (long, short) in renamed {
        let property = format!(" {long}: ");
        if glue.matches(&property).count() != 1 {
            return Err(format!("the glue has no property `{long}`, or several").into());
        }
        glue = glue.replace(&property, &format!(" {short}: "));
    }
    Ok(fs::write(path, glue)?)
}
