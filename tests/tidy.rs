//! Keeps the house in order: what the compiler does not see and a reviewer forgets.
//!
//! Each rule is a function from a file's text to complaints, and is tested on small texts first, so that a rule that
//! no longer finds anything fails too. The lists of exceptions are exact: an entry that is no longer needed is itself
//! a complaint.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The layers, bottom up. A layer imports itself and those before it.
const LAYERS: [&str; 13] = [
    "base",
    "protocol",
    "types",
    "keyspace",
    "command",
    "commands",
    "acl",
    "scripting",
    "stream",
    "rdb",
    "replication",
    "failover",
    "server",
];

/// Where `unsafe` may stand, and why. A path that ends in `/` is a folder.
const UNSAFE_ALLOWED: [(&str, &str); 6] = [
    ("src/keyspace/entry.rs", "an entry is one allocation behind a pointer of one word"),
    ("src/types/dictionary/", "slots in allocations of exactly an allocator's size class"),
    ("src/types/thin.rs", "counted blocks behind pointers of one word"),
    ("src/scripting/", "Lua's C interface, fibers"),
    ("src/server/process.rs", "calls of the C library"),
    ("benches/dictionary.rs", "an item that owns an allocation as the dataset's entries do"),
];

/// Where text may be printed to the standard output.
const PRINTS_ALLOWED: [(&str, &str); 1] = [("src/scripting/tests/speed.rs", "prints what it measured")];

/// Files of more than [`LONG`] lines.
const LONG_ALLOWED: [(&str, &str); 0] = [];

const LONG: usize = 1_000;

/// The code of a file: comments and the contents of strings and characters become blanks, lines stay lines.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let skipped = skipped_length(rest, at.checked_sub(1).map(|before| bytes[before]));
        if skipped == 0 {
            code.push(bytes[at]);
            at += 1;
        } else {
            code.extend(rest[..skipped].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at += skipped;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// How long the comment or literal is that begins here; 0 if it is code. `before` is the byte before it.
fn skipped_length(rest: &[u8], before: Option<u8>) -> usize {
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if rest.starts_with(b"//") {
        return rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return find(rest, b"*/").map_or(rest.len(), |end| end + 2);
    }
    if let Some(after_r) = rest.strip_prefix(b"r").filter(|_| !in_word || before == Some(b'b')) {
        let hashes = after_r.iter().take_while(|&&byte| byte == b'#').count();
        if after_r.get(hashes) == Some(&b'"') {
            let mut end = vec![b'"'];
            end.resize(hashes + 1, b'#');
            let start = 2 + hashes;
            return find(&rest[start..], &end).map_or(rest.len(), |length| start + length + end.len());
        }
    }
    match rest.first() {
        Some(b'"') => quoted_length(rest, b'"').unwrap_or(rest.len()),
        // A lifetime has no closing quote right after its first character.
        Some(b'\'') if rest.get(1) == Some(&b'\\') => quoted_length(rest, b'\'').unwrap_or(1),
        Some(b'\'') => {
            let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
                .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn quoted_length(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        at += match byte {
            b'\\' => 2,
            byte if byte == quote => return Some(at + 1),
            _ => 1,
        };
    }
    None
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The words of a text and the lines (from 1) on which they stand, with the byte after each.
fn words(code: &str) -> impl Iterator<Item = (usize, &str, Option<u8>)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        let bytes = line.as_bytes();
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < bytes.len() && !is_word_byte(bytes[at]) {
                at += 1;
            }
            let start = at;
            while at < bytes.len() && is_word_byte(bytes[at]) {
                at += 1;
            }
            (start < at).then(|| (number + 1, &line[start..at], bytes.get(at).copied()))
        })
    })
}

/// The first words of all paths inside the braces that `code` begins with, and of the path itself without braces.
fn heads_of_paths(code: &str) -> Vec<&str> {
    let word_end = |text: &str| text.bytes().position(|byte| !is_word_byte(byte)).unwrap_or(text.len());
    let Some(group) = code.trim_start().strip_prefix('{') else {
        let code = code.trim_start();
        return vec![&code[..word_end(code)]];
    };
    let mut depth = 1;
    let mut heads = Vec::new();
    let mut expects_head = true;
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 1 => expects_head = true,
            byte if is_word_byte(byte) && expects_head => {
                heads.push(&group[at..at + word_end(&group[at..])]);
                expects_head = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// How many modules deep a file's module lies below the crate's root.
fn module_depth(path: &str) -> usize {
    let folders = path.trim_start_matches("src/").matches('/').count();
    if path.ends_with("/mod.rs") { folders } else { folders + 1 }
}

fn upward_imports(path: &str, text: &str) -> Vec<String> {
    let Some(rank) = LAYERS.iter().position(|layer| path.starts_with(&format!("src/{layer}/"))) else {
        return Vec::new();
    };
    let code = code_of(text);
    let depth = module_depth(path);
    let mut complaints = Vec::new();
    let mut complain = |at: usize, paths: &str| {
        for head in heads_of_paths(paths) {
            if LAYERS[rank + 1..].contains(&head) {
                let line = code[..at].matches('\n').count() + 1;
                complaints.push(format!(
                    "{path}:{line}: the layer `{}` must not know `{head}`, which is above it",
                    LAYERS[rank]
                ));
            }
        }
    };
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].bytes().next_back().is_some_and(is_word_byte) {
            complain(at, &code[at + "crate::".len()..]);
        }
    }
    for (at, _) in code.match_indices("super::") {
        let first_of_chain = !code[..at].ends_with("super::");
        let supers = code[at..].split("super::").take_while(|between| between.is_empty()).count();
        // Inside of a nested module a chain may be one longer; none that is shorter reaches the root.
        if first_of_chain && supers >= depth {
            complain(at, code[at..].trim_start_matches("super::"));
        }
    }
    complaints
}

fn missing_module_comment(path: &str, text: &str) -> Vec<String> {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    if first.starts_with("//! ") {
        Vec::new()
    } else {
        vec![format!("{path}:1: the module has no `//!` comment that says what it is")]
    }
}

fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    words(&code)
        .filter(|(_, word, _)| *word == "unsafe")
        .map(|(line, ..)| format!("{path}:{line}: `unsafe` outside of the files that may use it"))
        .collect()
}

fn macros(path: &str, text: &str, names: &[&str]) -> Vec<String> {
    let code = code_of(text);
    words(&code)
        .filter(|(_, word, next)| *next == Some(b'!') && names.contains(word))
        .map(|(line, word, _)| format!("{path}:{line}: a stray `{word}!`"))
        .collect()
}

fn stray_prints(path: &str, text: &str) -> Vec<String> {
    macros(path, text, &["print", "println", "eprint", "eprintln"])
}

fn unfinished(path: &str, text: &str) -> Vec<String> {
    macros(path, text, &["todo", "unimplemented", "dbg"])
}

fn too_long(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LONG { vec![format!("{path}: {lines} lines: split it along sense")] } else { Vec::new() }
}

/// A rule, the part of the tree it holds for, and its exceptions.
struct Rule<'a> {
    folders: &'a [&'a str],
    check: fn(&str, &str) -> Vec<String>,
    allowed: &'a [(&'a str, &'a str)],
}

impl Rule<'_> {
    /// The complaints about `files` (path and text), and about exceptions that are not needed.
    fn apply(&self, files: &[(String, String)]) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut needed = vec![false; self.allowed.len()];
        for (path, text) in files {
            if !self.folders.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            let found = (self.check)(path, text);
            let exception = self.allowed.iter().position(|(allowed, _)| {
                path == allowed || (allowed.ends_with('/') && path.starts_with(allowed))
            });
            match exception {
                Some(exception) => needed[exception] |= !found.is_empty(),
                None => complaints.extend(found),
            }
        }
        for ((allowed, _), needed) in self.allowed.iter().zip(needed) {
            if !needed {
                complaints.push(format!("{allowed} stands in a list of exceptions and needs none"));
            }
        }
        complaints
    }
}

const EVERYWHERE: &[&str] = &["src/", "tests/", "benches/", "examples/", "fuzz/", "build/"];

fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![("build.rs".to_owned(), root.join("build.rs"))];
    let mut folders: Vec<PathBuf> = EVERYWHERE.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder of the repository can be listed").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                files.push((name, path));
            }
        }
    }
    files.sort();
    assert!(files.len() > 100, "only {} files: the walk is broken", files.len());
    let read = |path: &Path| std::fs::read_to_string(path).expect("a source file is readable text");
    files.into_iter().map(|(name, path)| (name, read(&path))).collect()
}

#[track_caller]
fn expect_tidy(rule: &Rule<'_>) {
    let complaints = rule.apply(&files());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_go_down_only() {
    expect_tidy(&Rule { folders: &["src/"], check: upward_imports, allowed: &[] });
}

#[test]
fn every_folder_is_a_layer() {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("src");
    for entry in folders {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            !entry.path().is_dir() || LAYERS.contains(&name.as_str()),
            "src/{name} is not in the order of layers"
        );
    }
}

#[test]
fn every_module_says_what_it_is() {
    expect_tidy(&Rule { folders: EVERYWHERE, check: missing_module_comment, allowed: &[] });
}

#[test]
fn unsafe_stands_where_it_may() {
    expect_tidy(&Rule { folders: EVERYWHERE, check: unsafe_code, allowed: &UNSAFE_ALLOWED });
}

#[test]
fn nothing_prints_but_what_is_to() {
    expect_tidy(&Rule { folders: &["src/"], check: stray_prints, allowed: &PRINTS_ALLOWED });
}

#[test]
fn nothing_is_unfinished() {
    expect_tidy(&Rule { folders: EVERYWHERE, check: unfinished, allowed: &[] });
}

#[test]
fn files_are_of_readable_length() {
    expect_tidy(&Rule { folders: EVERYWHERE, check: too_long, allowed: &LONG_ALLOWED });
}

// ---- The rules themselves ----

fn count(complaints: Vec<String>) -> usize {
    complaints.len()
}

#[test]
fn upward_imports_are_found() {
    let check = |path, text| count(upward_imports(path, text));
    assert_eq!(check("src/keyspace/x.rs", "use crate::server::Server;"), 1);
    assert_eq!(check("src/keyspace/x.rs", "use crate::base::clock;"), 0);
    assert_eq!(check("src/keyspace/x.rs", "use crate::keyspace::Entry;"), 0);
    assert_eq!(
        check("src/base/x.rs", "use crate::{\n    base::glob,\n    types::{Kind, server},\n    rdb,\n};"),
        2
    );
    assert_eq!(check("src/base/x.rs", "use crate::base::{server, rdb};"), 0);
    assert_eq!(check("src/base/x.rs", "fn f(x: &crate::command::Command) {}"), 1);
    assert_eq!(check("src/command/x.rs", "use crate::commands::FAMILIES;"), 1);
    assert_eq!(check("src/server/x.rs", "use crate::failover::State;"), 0);
    assert_eq!(check("src/base/x.rs", "use super::super::server::Server;"), 1);
    assert_eq!(check("src/base/file/x.rs", "use super::super::server::Server;"), 0);
    assert_eq!(check("src/base/file/mod.rs", "use super::super::server::Server;"), 1);
    assert_eq!(check("src/main.rs", "use crate::server::Server;"), 0);
    assert_eq!(
        check("src/base/x.rs", "// use crate::server::Server;\nconst X: &str = \"crate::server\";"),
        0
    );
    assert_eq!(
        upward_imports("src/rdb/x.rs", "\n\nuse crate::failover::State;")[0],
        "src/rdb/x.rs:3: the layer `rdb` must not know `failover`, which is above it"
    );
}

#[test]
fn missing_module_comments_are_found() {
    assert_eq!(count(missing_module_comment("x.rs", "use std::fs;\n")), 1);
    assert_eq!(count(missing_module_comment("x.rs", "")), 1);
    assert_eq!(count(missing_module_comment("x.rs", "// A comment.\n//! Too late.\n")), 1);
    assert_eq!(count(missing_module_comment("x.rs", "//! A module.\nuse std::fs;\n")), 0);
}

#[test]
fn unsafe_code_is_found() {
    assert_eq!(count(unsafe_code("x.rs", "fn f() { unsafe { g() } }\nunsafe fn g() {}")), 2);
    assert_eq!(
        count(unsafe_code("x.rs", "// unsafe\n#![deny(unsafe_op_in_unsafe_fn)]\nlet x = \"unsafe\";")),
        0
    );
    assert_eq!(count(unsafe_code("x.rs", "let quote = '\"'; unsafe { g() } // \"")), 1);
    assert_eq!(
        count(unsafe_code("x.rs", "let raw = r#\"a \" unsafe\"#; fn f<'a>(x: &'a u8) { unsafe {} }")),
        1
    );
    assert_eq!(count(unsafe_code("x.rs", "let quote = b'\\''; unsafe {}")), 1);
}

#[test]
fn stray_macros_are_found() {
    assert_eq!(count(stray_prints("x.rs", "println!(\"x\"); std::eprint!(\"x\");")), 2);
    assert_eq!(count(stray_prints("x.rs", "writeln!(out)?; let println = 1; // println!(\"x\")")), 0);
    assert_eq!(count(unfinished("x.rs", "todo!(); dbg!(x); unimplemented!()")), 3);
    assert_eq!(count(unfinished("x.rs", "let todo = \"todo!\";")), 0);
}

#[test]
fn long_files_are_found() {
    assert_eq!(count(too_long("x.rs", &"x\n".repeat(LONG))), 0);
    assert_eq!(count(too_long("x.rs", &"x\n".repeat(LONG + 1))), 1);
}

#[test]
fn exceptions_are_exact() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let rule = |allowed| Rule { folders: &["src/"], check: unsafe_code, allowed };
    let files =
        [file("src/a.rs", "unsafe {}"), file("src/b/c.rs", "unsafe {}"), file("other/d.rs", "unsafe {}")];
    assert_eq!(count(rule(&[]).apply(&files)), 2);
    assert_eq!(count(rule(&[("src/a.rs", ""), ("src/b/", "")]).apply(&files)), 0);
    assert_eq!(count(rule(&[("src/a.rs", ""), ("src/b/", ""), ("src/e.rs", "")]).apply(&files)), 1);
}

/// What stands between single backticks, and the targets of links, on a page.
fn names_on(page: &str) -> (Vec<&str>, Vec<&str>) {
    let code = page.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2)).collect();
    let links =
        page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect();
    (code, links)
}

/// Paths and tests that a page names and that are not there. `exists` is asked for paths from the page's folder or the root,
/// `defined` for the last part of `a::b::c`.
fn missing_on(page: &str, exists: impl Fn(&str) -> bool, defined: impl Fn(&str) -> bool) -> Vec<String> {
    let (code, links) = names_on(page);
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let is_file = |word: &str| {
        word.contains('/')
            && !word.contains(char::is_uppercase)
            && [".rs", ".md", ".toml"].iter().any(|end| word.ends_with(end))
    };
    let links = links.into_iter().filter(|target| !target.starts_with("http"));
    let paths = links
        .map(|target| target.split('#').next().unwrap_or(target))
        .chain(code.iter().copied().filter(|word| is_file(word)));
    let lost =
        paths.filter(|path| !path.is_empty() && !path.contains('*') && !exists(path)).map(str::to_owned);
    let tests = code.iter().filter_map(|word| {
        let (_, last) = word.rsplit_once("::")?;
        (word.split("::").all(is_name) && !defined(last)).then(|| (*word).to_owned())
    });
    lost.chain(tests).collect()
}

#[test]
fn pages_name_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = files();
    let words = sources
        .iter()
        .flat_map(|(_, text)| ["fn ", "mod "].map(|keyword| text.split(keyword).skip(1)))
        .flatten();
    let ends = |character: char| !(character.is_ascii_alphanumeric() || character == '_');
    let mut known: HashSet<&str> = words.filter_map(|rest| rest.split(ends).next()).collect();
    known.extend(sources.iter().filter_map(|(path, _)| Path::new(path).file_stem()?.to_str()));
    let defined = |name: &str| known.contains(name);
    let mut complaints = Vec::new();
    for folder in [root.to_owned(), root.join("docs")] {
        for entry in std::fs::read_dir(&folder).expect("the pages can be listed") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let page = std::fs::read_to_string(&path).expect("a page is text");
            let exists = |name: &str| {
                [folder.join(name), root.join(name), root.join("src").join(name)]
                    .iter()
                    .any(|path| path.exists())
            };
            let lost = missing_on(&page, exists, defined);
            complaints.extend(lost.into_iter().map(|name| format!("{}: {name}", path.display())));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn names_of_nothing_are_found() {
    let page = "[a](gone.md) `src/ANY.rs` [b](here.md#part) `src/gone.rs` `src/here.rs` `tests::gone` `tests::here` `std::Vec` ```gone::gone```";
    let lost = missing_on(page, |path| path.contains("here"), |name| name == "here");
    assert_eq!(lost, ["gone.md", "src/gone.rs", "tests::gone"]);
}
