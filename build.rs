//! Compiles the Lua 5.1 interpreter that runs scripts.
//!
//! The C sources are those that the registry crate `lua-src` ships. They are copied to `OUT_DIR`, changed
//! there by the edits in `build/lua_patches.rs`, and linked statically; nothing of them enters this repository.

#[path = "build/lua_patches.rs"]
mod lua_patches;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The parts of Lua that are compiled. Files, processes, packages and the debug library are not among them.
const SOURCES: &[&str] = &[
    "lapi", "lauxlib", "lbaselib", "lcode", "ldebug", "ldo", "ldump", "lfunc", "lgc", "llex", "lmathlib",
    "lmem", "lobject", "lopcodes", "lparser", "lstate", "lstring", "lstrlib", "ltable", "ltablib", "ltm",
    "lundump", "lvm", "lzio",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/lua_patches.rs");
    println!("cargo::rerun-if-changed=Cargo.lock");

    let from = lua_source_folder();
    let to = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("lua");
    copy_sources(&from, &to);
    for patch in lua_patches::PATCHES {
        patch.apply(&to);
    }

    let mut compiler = cc::Build::new();
    compiler
        .include(&to)
        .opt_level(3)
        .warnings(false)
        // Lua's errors jump; the checking variant of longjmp in hardened libcs rejects jumps on a fiber's stack.
        .flag_if_supported("-U_FORTIFY_SOURCE")
        .flag_if_supported("-fno-strict-aliasing")
        // `_setjmp`: does not save the signal mask.
        .define("LUA_USE_ULONGJMP", None);
    for source in SOURCES {
        compiler.file(to.join(source).with_extension("c"));
    }
    compiler.compile("lua5.1-understudy");
}

/// Where cargo unpacked Lua 5.1, as cargo itself tells it.
fn lua_source_folder() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let root = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let target = env::var_os("TARGET").expect("cargo sets TARGET");
    let output = Command::new(cargo)
        // It may have to fetch what only tests need: a build has not done so. Other targets' crates need not be there.
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(target)
        .current_dir(root)
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata = String::from_utf8_lossy(&output.stdout);
    let folder = metadata
        .split("\"manifest_path\":\"")
        .skip(1)
        .filter_map(|rest| Path::new(rest.split('"').next()?).parent().map(Path::to_path_buf))
        .find(|folder| {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name == "lua-src" || name.starts_with("lua-src-")
        })
        .expect("lua-src is among the dependencies");
    folder.join("lua-5.1.5")
}

fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("OUT_DIR can be written");
    for entry in fs::read_dir(from).expect("the sources of lua-src can be read") {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().expect("a file in a directory has a name");
        // Written anew, not copied: the registry's files may be read-only.
        fs::write(to.join(name), fs::read(&path).expect("a source can be read"))
            .expect("OUT_DIR can be written");
    }
}
