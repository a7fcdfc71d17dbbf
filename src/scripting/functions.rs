//! The registry of function libraries: an immutable value behind an `Arc`, cloned when it changes. What is kept
//! is what the libraries declared when they were loaded; their compiled forms are in the interpreters.
//!
//! Invariant: no two libraries have the same name, and no two functions, across all libraries.

use std::collections::BTreeMap;
use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flags::ScriptFlags;
use super::statistics::ScriptStatistics;
use crate::protocol::ErrorReply;

/// The name of the only engine, as FUNCTION LIST and STATS show it.
pub const ENGINE_NAME: &str = "LUA";

/// A function as its library registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub description: Option<Vec<u8>>,
    pub flags: ScriptFlags,
    /// What is counted of its runs.
    pub statistics: Arc<ScriptStatistics>,
}

/// A function that an interpreter can call.
#[derive(Debug)]
pub(super) struct LoadedFunction {
    pub(super) name: String,
    pub(super) description: Option<Vec<u8>>,
    pub(super) flags: ScriptFlags,
    /// Of the callback, in the registry of the state that loaded it.
    pub(super) reference: c_int,
}

/// A library as it was loaded. Never changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    name: String,
    code: Arc<[u8]>,
    shebang_len: usize,
    functions: Vec<Function>,
}

impl Library {
    pub(super) fn new(name: String, code: Arc<[u8]>, shebang_len: usize, functions: Vec<Function>) -> Self {
        Library { name, code, shebang_len, functions }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole code, `#!` line included: what dumps and files hold.
    pub fn code(&self) -> &Arc<[u8]> {
        &self.code
    }

    /// The length of the `#!` line, which Lua does not compile.
    pub(super) fn shebang_len(&self) -> usize {
        self.shebang_len
    }

    /// In the order in which they were registered.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }
}

/// Finds a function in the registry, and lets it be called.
#[derive(Debug, Clone)]
pub struct FunctionHandle {
    pub(super) library: Arc<Library>,
    pub(super) index: usize,
}

impl FunctionHandle {
    pub fn function(&self) -> &Function {
        &self.library.functions[self.index]
    }

    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }
}

/// All libraries. A change makes a new one: keep it in an `Arc` and swap that.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    libraries: BTreeMap<String, Arc<Library>>,
    /// Function name in lower case to its library and its place there: functions are found in either case.
    functions: BTreeMap<String, (Arc<Library>, usize)>,
    version: u64,
}

/// Numbers the registries of this process.
static VERSIONS: AtomicU64 = AtomicU64::new(1);

impl Registry {
    /// Differs between any two registries that do not have the same content; interpreters drop by it what they
    /// loaded.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    fn changed(&self) -> Registry {
        Registry { version: VERSIONS.fetch_add(1, Ordering::Relaxed), ..self.clone() }
    }

    /// The function with this name.
    pub fn function(&self, name: &[u8]) -> Option<FunctionHandle> {
        let name = std::str::from_utf8(name).ok()?;
        let (library, index) = self.functions.get(&name.to_ascii_lowercase())?;
        Some(FunctionHandle { library: library.clone(), index: *index })
    }

    /// The library with this name.
    pub fn library(&self, name: &[u8]) -> Option<&Arc<Library>> {
        self.libraries.get(std::str::from_utf8(name).ok()?)
    }

    /// All libraries, by name.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = &Arc<Library>> {
        self.libraries.values()
    }

    pub fn library_count(&self) -> usize {
        self.libraries.len()
    }

    pub fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// The bytes of code and names that the registry holds.
    pub fn memory(&self) -> usize {
        let library = |library: &Arc<Library>| {
            let functions = library.functions.iter().map(|function| {
                size_of::<Function>()
                    + function.name.len() * 2
                    + function.description.as_ref().map_or(0, Vec::len)
            });
            size_of::<Library>() + library.name.len() * 2 + library.code.len() + functions.sum::<usize>()
        };
        self.libraries.values().map(library).sum()
    }

    /// Checks what can be checked before a library's code runs.
    pub fn check_name(&self, name: &str, replace: bool) -> Result<(), ErrorReply> {
        if !replace && self.libraries.contains_key(name) {
            return Err(ErrorReply::from_text(format!("ERR Library '{name}' already exists")));
        }
        Ok(())
    }

    /// The registry with one library more, or in place of the one of its name if `replace`.
    pub fn with(&self, library: Arc<Library>, replace: bool) -> Result<Registry, ErrorReply> {
        self.check_name(&library.name, replace)?;
        let mut registry = self.changed();
        registry.remove(&library.name);
        registry.add(library)?;
        Ok(registry)
    }

    /// FUNCTION RESTORE: the registry joined with all libraries of another, which replace those of the same
    /// name if `replace`. All or nothing.
    pub fn joined(&self, restored: &Registry, replace: bool) -> Result<Registry, ErrorReply> {
        let mut registry = self.changed();
        for name in restored.libraries.keys() {
            if registry.remove(name) && !replace {
                return Err(ErrorReply::from_text(format!("ERR Library {name} already exists")));
            }
        }
        for library in restored.libraries.values() {
            registry.add(library.clone())?;
        }
        Ok(registry)
    }

    /// FUNCTION DELETE.
    pub fn without(&self, name: &[u8]) -> Result<Registry, ErrorReply> {
        let mut registry = self.changed();
        match std::str::from_utf8(name) {
            Ok(name) if registry.remove(name) => Ok(registry),
            _ => Err(ErrorReply::new("ERR Library not found")),
        }
    }

    fn add(&mut self, library: Arc<Library>) -> Result<(), ErrorReply> {
        for (index, function) in library.functions.iter().enumerate() {
            if self.functions.insert(function.name.to_ascii_lowercase(), (library.clone(), index)).is_some() {
                return Err(ErrorReply::from_text(format!("ERR Function {} already exists", function.name)));
            }
        }
        self.libraries.insert(library.name.clone(), library);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> bool {
        let Some(library) = self.libraries.remove(name) else { return false };
        for function in &library.functions {
            self.functions.remove(&function.name.to_ascii_lowercase());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Arc<Library> {
        let functions = functions.iter().map(|name| Function {
            name: (*name).to_owned(),
            description: None,
            flags: ScriptFlags::NONE,
            statistics: Default::default(),
        });
        Arc::new(Library::new(name.to_owned(), Arc::from(&b"#!lua\n"[..]), 5, functions.collect()))
    }

    fn text(error: ErrorReply) -> String {
        String::from_utf8(error.0.into_owned()).expect("text")
    }

    #[test]
    fn libraries_and_functions_are_unique() {
        let one = Registry::default().with(library("a", &["f", "g"]), false).expect("new");
        assert_eq!((one.library_count(), one.function_count()), (1, 2));
        let again = one.with(library("a", &["h"]), false).expect_err("same name");
        assert_eq!(text(again), "ERR Library 'a' already exists");
        let collision = one.with(library("b", &["x", "g"]), true).expect_err("same function");
        assert_eq!(text(collision), "ERR Function g already exists");
        let replaced = one.with(library("a", &["h"]), true).expect("replaced");
        assert!(replaced.function(b"f").is_none());
        assert_eq!(
            replaced.function(b"h").map(|handle| handle.library().name().to_owned()),
            Some("a".into())
        );
        assert!(one.function(b"f").is_some(), "the old value stays as it was");
    }

    #[test]
    fn functions_are_found_in_either_case() {
        let registry = Registry::default().with(library("a", &["Fn"]), false).expect("new");
        assert_eq!(registry.function(b"fN").map(|handle| handle.function().name.clone()), Some("Fn".into()));
        let collision = registry.with(library("b", &["FN"]), false).expect_err("same function");
        assert_eq!(text(collision), "ERR Function FN already exists");
        assert!(registry.library(b"A").is_none());
        assert_eq!(registry.without(b"a").expect("deleted").function_count(), 0);
    }

    #[test]
    fn deleting() {
        let registry = Registry::default().with(library("a", &["f"]), false).expect("new");
        assert_eq!(text(registry.without(b"b").expect_err("unknown")), "ERR Library not found");
        let empty = registry.without(b"a").expect("deleted");
        assert_eq!((empty.library_count(), empty.function_count(), empty.memory()), (0, 0, 0));
    }

    #[test]
    fn restoring_joins_all_or_nothing() {
        let base = Registry::default().with(library("a", &["f"]), false).expect("new");
        let base = base.with(library("b", &["g"]), false).expect("new");
        let restored = Registry::default().with(library("a", &["f2"]), false).expect("new");
        assert_eq!(text(base.joined(&restored, false).expect_err("append")), "ERR Library a already exists");
        let joined = base.joined(&restored, true).expect("replace");
        assert!(joined.function(b"f").is_none() && joined.function(b"f2").is_some());
        let clashing = Registry::default().with(library("c", &["g"]), false).expect("new");
        assert_eq!(
            text(base.joined(&clashing, true).expect_err("function")),
            "ERR Function g already exists"
        );
    }
}
