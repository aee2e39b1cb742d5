//! Linking of one variant: WESL modules in, one WGSL text out.

use std::borrow::Cow;
use std::path::Path;

use wesl::syntax::PathOrigin;
use wesl::{CompileOptions, Feature, Features, FileResolver, Mangler, ModulePath, ResolveError, Resolver, Wesl};

use crate::table::{Row, Selection};

/// Files below `shaders/`, plus the virtual module `constants`.
struct Sources {
    files: FileResolver,
    /// Written by us rather than by WESL, whose own constants come in the order of a hash map.
    constants: String,
}

impl Resolver for Sources {
    fn resolve_source<'a>(&'a self, path: &ModulePath) -> Result<Cow<'a, str>, ResolveError> {
        match &path.origin {
            PathOrigin::Package(name) if name == "constants" => Ok(Cow::Borrowed(&self.constants)),
            _ => self.files.resolve_source(path),
        }
    }

    fn display_name(&self, path: &ModulePath) -> Option<String> {
        self.files.display_name(path)
    }
}

/// `package::lib::grid::row` becomes `grid_row`, `constants::ROWS` stays `ROWS`.
///
/// Two library files of one name would clash; naga then reports the redefinition.
struct ShortNames;

impl Mangler for ShortNames {
    fn mangle(&self, path: &ModulePath, item: &str) -> String {
        match path.components.last() {
            Some(module) => format!("{module}_{item}"),
            None => item.to_owned(),
        }
    }
}

/// Links the kernel of `row`; `features` are all names a condition may use.
pub(crate) fn link(shaders: &Path, row: &Row, selection: &Selection<'_>, features: &[&str]) -> Result<String, String> {
    let constants = selection.constants(row);
    let constants = constants.iter().map(|(name, value)| format!("const {name} = {value}u;\n")).collect();
    let mut flags: Features = Features { default: Feature::Error, ..Features::default() };
    flags.flags.extend(features.iter().map(|name| ((*name).to_owned(), Feature::Disable)));
    flags.flags.extend(selection.features().map(|name| (name.to_owned(), Feature::Enable)));

    let mut wesl = Wesl::new(shaders).set_custom_resolver(Sources { files: FileResolver::new(shaders), constants });
    wesl.set_custom_mangler(ShortNames);
    // The root module is kept whole, so that a binding nobody reads is seen by the lints instead of
    // vanishing; the library is stripped to what is used.
    wesl.set_options(CompileOptions { keep_root: true, features: flags, ..CompileOptions::default() });
    let root: ModulePath =
        format!("package::{}", row.path.replace('/', "::")).parse().map_err(|e| format!("`{}` is no module path: {e}", row.path))?;
    let mut linked = wesl.compile(&root).map_err(|e| e.to_string())?.syntax;
    // Library items come in the order of a hash map too. WGSL gives order no meaning, but the text is
    // the key of drivers' pipeline caches.
    linked.global_declarations.sort_by_cached_key(ToString::to_string);
    Ok(linked.to_string())
}
