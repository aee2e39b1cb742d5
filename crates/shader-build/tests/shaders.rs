//! Small shader folders through the whole generator: what is written, and every way to fail.

#[path = "../../kernels/tests/support/folder.rs"]
mod folder;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use folder::Folder;
use kinora_shader_build::{Generated, Target, generate, write};

/// A folder of shaders.
struct Shaders(Folder);

impl Shaders {
    fn new(table: &str, files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("shaders-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let shaders = Self(Folder::new(&name).expect("temporary folder"));
        shaders.put("variants.toml", table);
        for (path, text) in files {
            shaders.put(path, text);
        }
        shaders
    }

    fn path(&self) -> &Path {
        &self.0.0
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("temporary folder");
        fs::write(path, text).expect("temporary file");
    }

    fn generate(&self) -> Generated {
        generate(self.path(), Target::Native).unwrap_or_else(|e| panic!("{e}"))
    }

    fn problems(&self) -> Vec<String> {
        generate(self.path(), Target::Native).err().map(|e| e.problems).unwrap_or_default()
    }
}

const SCALE: &str = "// y = factor · x
import constants::WG;
import package::lib::round::shorten;
struct Params { factor: f32, count: u32, pad0: u32, pad1: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // [count]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [count]
@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    if at.x < p.count { y[at.x] = shorten(p.factor * x[at.x]); }
}
";
const ROUND: &str = "@if(exact) fn shorten(v: f32) -> f32 { return v; }
@if(coarse) fn shorten(v: f32) -> f32 { return floor(v); }
fn unused() -> f32 { return 1.0; }
";
const TABLE: &str = r#"["ops/scale"]
axes = { rounding = ["exact", "coarse"] }
constants = { ZOOM = 3, WG = 64, ASPECT = 2 }
"#;

fn scale(edit: (&str, &str)) -> Shaders {
    assert!(SCALE.contains(edit.0), "the edit must change something: {}", edit.0);
    let source = SCALE.replacen(edit.0, edit.1, 1);
    Shaders::new(TABLE, &[("ops/scale.wesl", &source), ("lib/round.wesl", ROUND)])
}

#[track_caller]
fn assert_problem(folder: &Shaders, expected: &str) {
    let problems = folder.problems();
    assert!(problems.iter().any(|p| p.contains(expected)), "expected {expected:?} in {problems:#?}");
}

#[test]
fn variants_become_a_rust_module() {
    let Generated { rust, wgsl } = scale(("", "")).generate();
    for expected in [
        "pub mod scale",
        "pub const WG: u32 = 64;",
        "pub factor: f32,",
        "pub pad1: u32,",
        "assert!(size_of::<Params>() == 16)",
        "offset_of!(Params, count) == 4",
        "pub enum Rounding { Exact, Coarse }",
        "pub rounding: Rounding,",
        "pub static ALL: &[&[crate::kernel::Kernel]] = &[&scale::KERNELS];",
        r#"name: "scale[coarse]", lines: &[0, 1"#,
        "bindings: &[Access::Uniform, Access::Read, Access::ReadWrite], workgroup: [64, 1, 1]",
    ] {
        assert!(rust.contains(expected), "missing {expected:?} in\n{rust}");
    }
    let names: Vec<&str> = wgsl.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["scale.exact.wgsl", "scale.coarse.wgsl"], "one file per variant");
    assert!(wgsl[1].1.contains("floor") && !wgsl[0].1.contains("floor"), "each variant has its own branch");
    assert!(!wgsl[0].1.contains("unused"), "library functions nobody calls are stripped");
}

#[test]
fn constants_do_not_depend_on_the_order_of_a_hash_map() {
    let source =
        SCALE.replace("WG)\n", "WG * ASPECT * ZOOM / 6u)\n").replace("import constants::WG;", "import constants::{ZOOM, WG, ASPECT};");
    let text = || {
        let folder = Shaders::new(TABLE, &[("ops/scale.wesl", &source), ("lib/round.wesl", ROUND)]);
        folder.generate().wgsl[0].1.clone()
    };
    let first = text();
    assert!((0..8).all(|_| text() == first), "linked text differs between runs");
}

#[test]
fn boolean_and_numeric_axes() {
    let table = r#"["ops/scale"]
axes = { exact = [false, true], wg = [32, 64] }
"#;
    let round = ROUND.replace("@if(coarse)", "@else");
    let folder = Shaders::new(table, &[("ops/scale.wesl", SCALE), ("lib/round.wesl", &round)]);
    let Generated { rust, wgsl } = folder.generate();
    assert!(rust.contains("pub exact: bool,") && rust.contains("pub wg: Wg,"), "{rust}");
    assert!(rust.contains("64 => Some(Self::N64),"), "{rust}");
    assert!(rust.contains("&KERNELS[(self.exact as usize) * 2 + self.wg as usize]"), "{rust}");
    let names: Vec<&str> = wgsl.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["scale.wg32.wgsl", "scale.wg64.wgsl", "scale.exact.wg32.wgsl", "scale.exact.wg64.wgsl"];
    assert_eq!(names, expected, "the last axis varies fastest");
    assert!(wgsl[2].1.contains("WG = 32u"), "{}", wgsl[2].1);
}

#[test]
fn fixed_features_are_in_every_variant_and_no_label() {
    let table = "[\"ops/scale\"]\nfeatures = [\"exact\"]\nconstants = { WG = 64 }\n";
    let round = "@if(exact) fn shorten(v: f32) -> f32 { return v; }\n";
    let Generated { rust, wgsl } = Shaders::new(table, &[("ops/scale.wesl", SCALE), ("lib/round.wesl", round)]).generate();
    assert!(rust.contains(r#"name: "scale","#) && rust.contains("pub static KERNEL: &Kernel"), "no axis is left: {rust}");
    assert!(wgsl[0].1.contains("shorten"), "{}", wgsl[0].1);
}

#[test]
fn writing_replaces_what_an_older_table_left() {
    let folder = scale(("", ""));
    let out = folder.path().join("out");
    folder.put("out/wgsl/gone.wgsl", "old");
    write(folder.path(), &out, Target::Native).unwrap_or_else(|e| panic!("{e}"));
    assert!(out.join("wgsl/scale.exact.wgsl").exists(), "linked text is on disk");
    assert!(!out.join("wgsl/gone.wgsl").exists(), "stale text is removed");
    assert!(out.join("kernels.rs").exists(), "the Rust side is on disk");
}

#[test]
fn shaders_that_do_not_compile_name_kernel_and_variant() {
    assert_problem(&scale(("lib::round::", "lib::missing::")), "scale[exact]: does not link");
    assert_problem(&scale(("p.factor * x", "p.factor $ x")), "scale[exact]: does not link");
    assert_problem(&scale(("p.factor * x", "p.count * x")), "scale[coarse]: is rejected by naga");
    assert_problem(&scale(("p.factor * x", "p.fctor * x")), "scale[coarse]: is not valid WGSL");
    let problems = scale(("p.factor * x", "p.fctor * x")).problems();
    assert_eq!(problems.len(), 2, "both variants are reported: {problems:#?}");
}

#[test]
fn a_condition_on_an_unknown_feature_is_a_spelling_mistake() {
    let round = ROUND.replace("@if(coarse)", "@if(corse)");
    let folder = Shaders::new(TABLE, &[("ops/scale.wesl", SCALE), ("lib/round.wesl", &round)]);
    assert_problem(&folder, "corse");
}

#[test]
fn lints_of_the_source() {
    assert_problem(&scale(("// y = factor · x\n", "")), "starts without a comment");
    assert_problem(&scale(("f32>; // [count]", "f32>;")), "ops/scale.wesl:6: storage binding without a comment");
    assert_problem(&scale(("    if at", "    @if(exact) if at")), "ops/scale.wesl:10: condition inside a body");
    assert_problem(&scale(("import constants", "enable f16;\nimport constants")), "ops/scale.wesl:2: directive");
    let round = format!("enable f16;\n{ROUND}");
    let folder = Shaders::new(TABLE, &[("ops/scale.wesl", SCALE), ("lib/round.wesl", &round)]);
    assert_problem(&folder, "lib/round.wesl:1: directive");
    assert_problem(&scale(("p.factor * x[at.x]", "max(-3.0e38, x[at.x])")), "ops/scale.wesl:10: -3.0e38 is beyond 1e30");
}

#[test]
fn lints_of_the_interface() {
    assert_problem(&scale(("fn main", "fn run")), r#"entry points ["run"]"#);
    assert_problem(&scale(("size(WG)", "size(WG, 8)")), "512 invocations");
    assert_problem(&scale(("binding(2)", "binding(3)")), "numbered without gaps");
    assert_problem(&scale(("x[at.x]", "1.0")), "binding `x` is never used");
    assert_problem(&scale(("pad1: u32 }", "pad1: u32, at: vec4<u32>, pad2: u32 }")), "pad explicitly");
    assert_problem(&scale(("count: u32, pad0: u32", "count: u32, pad0: vec2<f32>")), "pad explicitly");
    assert_problem(&scale(("pad1: u32", "phase: u32")), "Params.phase is never read");
    assert_problem(&scale(("pad0: u32, pad1: u32", "m: mat2x2<f32>")), "neither a scalar nor a vector");
    assert_problem(&scale(("pad1: u32", "pad1: vec3<u32>")), "a type the host does not mirror");
    assert_problem(&scale(("<storage, read>", "<storage, read_write>")), "exactly one read_write binding");
    let shared = "var<workgroup> big: array<f32, 4097>;\n@compute";
    let source = SCALE.replace("@compute", shared).replace("shorten(", "big[0] + shorten(");
    let folder = Shaders::new(TABLE, &[("ops/scale.wesl", &source), ("lib/round.wesl", ROUND)]);
    assert_problem(&folder, "16388 bytes of workgroup memory");
    let many: String = (3..11).map(|i| format!("@group(0) @binding({i}) var<storage, read> z{i}: array<f32>; // [1]\n")).collect();
    assert_problem(&scale(("@compute", &format!("{many}@compute"))), "10 storage buffers");
}

#[test]
fn subgroups_are_for_kernels_and_variants_that_need_them() {
    let source = SCALE.replace("shorten(p", "shorten(subgroupBroadcast(p.factor, 0u) * p");
    let folder = |table: &str| Shaders::new(table, &[("ops/scale.wesl", &source), ("lib/round.wesl", ROUND)]);
    assert_problem(&folder(TABLE), "rejected by naga");
    assert_problem(&folder(&format!("{TABLE}needs = [\"integers64\"]")), "rejected by naga");
    folder(&format!("{TABLE}needs = [\"subgroups\"]")).generate();
    let problems = folder(&format!("{TABLE}needs = {{ exact = [\"subgroups\"] }}")).problems();
    assert!(problems.iter().all(|p| p.starts_with("scale[coarse]")), "the exact variant has what it needs: {problems:#?}");
}

#[test]
fn texts_that_need_something_are_not_in_builds_for_browsers() {
    let folder =
        Shaders::new(&format!("{TABLE}needs = {{ coarse = [\"subgroups\"] }}"), &[("ops/scale.wesl", SCALE), ("lib/round.wesl", ROUND)]);
    let Generated { rust, wgsl } = generate(folder.path(), Target::Browser).unwrap_or_else(|e| panic!("{e}"));
    assert!(rust.contains(r#"name: "scale[coarse]", lines: &[],"#), "the variant keeps its place: {rust}");
    assert_eq!(wgsl.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["scale.exact.wgsl"]);
}

#[test]
fn all_variants_share_one_params() {
    let source = SCALE.replace(
        "struct Params { factor: f32, count: u32,",
        "@if(exact) struct Params { factor: f32, count: u32, pad0: u32, pad1: u32 }\n@if(coarse) struct Params { count: u32, factor: f32,",
    );
    let folder = Shaders::new(TABLE, &[("ops/scale.wesl", &source), ("lib/round.wesl", ROUND)]);
    assert_problem(&folder, "scale[coarse]: Params differs from that of scale[exact]");
}

#[test]
fn mistakes_in_the_table() {
    let problem = |table: &str, expected: &str| assert_problem(&Shaders::new(table, &[]), expected);
    problem("[", "variants.toml");
    problem("[\"a/b\"]\naxis = 1", "unknown key `axis`");
    problem("[\"a/b\"]\naxes = { w = [] }", "axis `w`: expected a list");
    problem("[\"a/b\"]\naxes = { w = [true, false] }", "axis `w`: expected a list");
    problem("[\"a/b\"]\naxes = { w = [\"a\", 1] }", "axis `w`: expected a list");
    problem("[\"a/b\"]\nconstants = { WG = -1 }", "expected an integer");
    problem("[\"a/b\"]\naxes = { w = [\"none\"], v = [\"none\"] }", "`none` names two features");
    problem("[\"a/b\"]\nfeatures = \"bias\"", "`features` is no list of texts");
    problem("[\"a/b\"]\nneeds = [\"wings\"]", "expected a list of `subgroups`");
    problem("[\"a/b\"]\nneeds = { quads = [\"subgroups\"] }", "`needs` of `quads`, which is a value of no axis");
    problem("[\"a/b\"]\n[\"c/b\"]", "another kernel has the same file name");
    problem("[\"a/b\"]", "cannot read");
}

#[test]
fn builds_for_browsers_carry_few_texts() {
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shaders");
    let Generated { wgsl, .. } = generate(&shaders, Target::Browser).unwrap_or_else(|e| panic!("{e}"));
    assert!(wgsl.len() <= 120, "{} texts; each is downloaded by every page", wgsl.len());
}
