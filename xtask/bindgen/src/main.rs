//! `kinora-bindgen FOLDER NAME=MODULE.wasm …`: modules without their custom sections, and the one JavaScript glue that fits all.

mod order;

use std::{env, error::Error, fs, path::Path, process::ExitCode, thread};

use wasm_bindgen_cli_support::Bindgen;

/// Of the glue, by which modules call what they import from it.
const GLUE: &str = "core";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let modules: Vec<_> = arguments.iter().skip(1).filter_map(|module| module.split_once('=')).collect();
    let (Some(folder), true) = (arguments.first(), !modules.is_empty() && modules.len() + 1 == arguments.len()) else {
        eprintln!("usage: kinora-bindgen FOLDER NAME=MODULE.wasm …");
        return ExitCode::from(2);
    };
    match generate(Path::new(folder), &modules) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kinora-bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the glue, and `NAME_bg.wasm` of every module. Modules are worked on side by side.
fn generate(folder: &Path, modules: &[(&str, &str)]) -> Result<()> {
    let made: Vec<Result<String>> = thread::scope(|scope| {
        let work =
            |&(name, module)| scope.spawn(move || single(folder, name, Path::new(module)).map_err(|error| format!("{name}: {error:#}")));
        let threads: Vec<_> = modules.iter().map(work).collect();
        threads.into_iter().map(|thread| Ok(thread.join().map_err(|_| "the generator broke")??)).collect()
    });
    let mut glue: Option<String> = None;
    for ((name, _), own) in modules.iter().zip(made) {
        let own = own?;
        // A page fetches one module but has the script of all, so that it must not matter which.
        if let Some((line, (found, expected))) =
            glue.iter().flat_map(|glue| own.lines().zip(glue.lines()).enumerate()).find(|(_, (a, b))| a != b)
        {
            return Err(
                format!("{name} needs another glue than the modules before it: line {line} is `{found}`, expected `{expected}`").into()
            );
        }
        glue.get_or_insert(own);
    }
    Ok(fs::write(folder.join(format!("{GLUE}.js")), glue.unwrap_or_default())?)
}

/// Writes one module and returns its glue.
fn single(folder: &Path, name: &str, module: &Path) -> Result<String> {
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name(GLUE).typescript(true).remove_name_section(true).remove_producers_section(true);
    let mut output = bindgen.web(true)?.generate_output()?;
    // Two hundred names of imports end in 16 random digits each, which no compression makes smaller.
    let mut renamed = Vec::new();
    for (index, import) in output.wasm_mut().imports.iter_mut().enumerate() {
        let short = format!("i{index}");
        renamed.push((std::mem::replace(&mut import.name, short.clone()), short));
    }
    // All modules emit the same names.
    let own = folder.join(format!("{name}.part"));
    output.emit(&own)?;
    let ordered = order::by_likeness(&fs::read(own.join(format!("{GLUE}_bg.wasm")))?)?;
    fs::write(folder.join(format!("{name}_bg.wasm")), ordered)?;
    let mut glue = fs::read_to_string(own.join(format!("{GLUE}.js")))?;
    for types in [format!("{GLUE}.d.ts"), format!("{GLUE}_bg.wasm.d.ts")] {
        fs::copy(own.join(&types), folder.join(types))?;
    }
    fs::remove_dir_all(own)?;
    for (long, short) in renamed {
        let property = format!(" {long}: ");
        if glue.matches(&property).count() != 1 {
            return Err(format!("the glue has no property `{long}`, or several").into());
        }
        glue = glue.replace(&property, &format!(" {short}: "));
    }
    // Comments number the functions of a module.
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    Ok(glue.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect())
}
