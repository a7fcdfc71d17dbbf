//! The engine of one reactor or worker thread: starts scripts, goes on with them slice by slice, and keeps idle
//! interpreters and stacks for the next ones.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use corosensei::stack::DefaultStack;

use super::context::Outcome;
use super::debugger::Debugger;
use super::fiber::{Event, Fiber};
use super::flags::library_metadata;
use super::functions::{Function, FunctionHandle, Library, Registry};
use super::host::ScriptHost;
use super::interpreter::{Interpreter, memory_error};
use super::sandbox::{Features, Kind};
use super::scripts::Script;
use crate::protocol::{ErrorReply, Reply};

/// Idle interpreters kept of each kind. More than one is in use only while scripts are suspended.
const IDLE_INTERPRETERS: usize = 4;
/// Stacks kept of abandoned scripts.
const IDLE_STACKS: usize = 4;

/// How long the code of a library may run when a client loads it.
pub const LOAD_TIME_LIMIT: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Copy)]
pub enum Code<'a> {
    /// EVAL and EVALSHA.
    Script(&'a Arc<Script>),
    /// FCALL: a function found in this registry.
    Function(&'a Registry, &'a FunctionHandle),
}

/// A script or function to run, with what it is called with.
#[derive(Clone, Copy)]
pub struct ScriptCall<'a> {
    pub code: Code<'a>,
    pub keys: &'a [&'a [u8]],
    pub arguments: &'a [&'a [u8]],
}

/// A run that is not over. Can be moved to another thread, and gone on with there by another engine.
pub struct ScriptRun {
    interpreter: Option<Box<Interpreter>>,
}

/// What a script answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptResult {
    pub reply: Reply<'static>,
    /// The reply is an error that a command answered, hence already counted in the error statistics.
    pub error_counted: bool,
}

/// Where a run is after a slice.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    Done(ScriptResult),
    Suspended,
}

/// What holds for the scripts that engines start from now on; one may be shared by the engines of all threads.
#[derive(Debug, Default)]
pub struct EngineSettings {
    /// `script-max-memory` in bytes; 0 is no limit.
    pub script_max_memory: AtomicUsize,
    /// `lua-enable-insecure-api`: scripts find `getfenv`, `setfenv` and `newproxy`.
    pub insecure_api: AtomicBool,
}

/// See the module's comment. One for each thread that runs scripts.
pub struct Engine {
    #[expect(clippy::vec_box, reason = "they are large and move with every script")]
    idle_scripts: Vec<Box<Interpreter>>,
    #[expect(clippy::vec_box, reason = "as above")]
    idle_functions: Vec<Box<Interpreter>>,
    stacks: Vec<DefaultStack>,
    settings: Arc<EngineSettings>,
    /// What the idle interpreters were made with.
    idle_features: Features,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl ScriptRun {
    /// The digest of the script in hexadecimal digits, or the name of the function.
    pub fn name(&self) -> Vec<u8> {
        self.interpreter.as_ref().map_or(Vec::new(), |interpreter| interpreter.name())
    }

    /// The bytes that its Lua state uses.
    pub fn used_memory(&self) -> usize {
        self.interpreter.as_ref().map_or(0, |interpreter| interpreter.used_bytes())
    }

    /// The run, to be given away; what is left behind is over.
    pub fn take(&mut self) -> ScriptRun {
        ScriptRun { interpreter: self.interpreter.take() }
    }

    /// Whether the run is over.
    pub fn is_done(&self) -> bool {
        self.interpreter.is_none()
    }
}

impl Engine {
    /// An engine without a limit of memory for scripts.
    pub fn new() -> Self {
        Self::with_settings(Arc::default())
    }

    /// An engine with settings that others may share.
    pub fn with_settings(settings: Arc<EngineSettings>) -> Self {
        Engine {
            idle_scripts: Vec::new(),
            idle_functions: Vec::new(),
            stacks: Vec::new(),
            settings,
            idle_features: Features::default(),
        }
    }

    /// Sets `script-max-memory` in bytes, for runs that start from now on; 0 is no limit.
    pub fn set_script_max_memory(&mut self, bytes: usize) {
        self.settings.script_max_memory.store(bytes, Relaxed);
    }

    fn allowance(&self) -> usize {
        match self.settings.script_max_memory.load(Relaxed) {
            0 => usize::MAX,
            bytes => bytes,
        }
    }

    /// The bytes used by the idle interpreters for scripts and for functions (`used_memory_vm_eval`,
    /// `used_memory_vm_functions`). Those that run are not in it: see [`ScriptRun::used_memory`].
    pub fn used_memory(&self) -> (usize, usize) {
        let sum = |idle: &[Box<Interpreter>]| idle.iter().map(|interpreter| interpreter.used_bytes()).sum();
        (sum(&self.idle_scripts), sum(&self.idle_functions))
    }

    /// Drops all idle interpreters and what they compiled (SCRIPT FLUSH, FUNCTION FLUSH).
    pub fn clear(&mut self) {
        self.idle_scripts.clear();
        self.idle_functions.clear();
    }

    /// Starts a run. Nothing of it has happened when this returns: [`Engine::resume`] runs it.
    pub fn start(&mut self, call: ScriptCall<'_>) -> Result<ScriptRun, ErrorReply> {
        let allowance = self.allowance();
        let interpreter = match call.code {
            Code::Script(script) => {
                let mut interpreter = self.interpreter(Kind::Scripts, Some(script))?;
                interpreter.start_script(script, call.keys, call.arguments, allowance);
                interpreter
            }
            Code::Function(registry, function) => {
                let mut interpreter = self.interpreter(Kind::Functions, None)?;
                interpreter.start_function(registry, function, call.keys, call.arguments, allowance);
                interpreter
            }
        };
        Ok(ScriptRun { interpreter: Some(interpreter) })
    }

    /// As [`start`](Self::start), of a script that is debugged. Its state is its own, and gone with it. While its
    /// [`Console`](super::Console) has no command for it, a slice of it ends at once.
    pub fn start_debugging(
        &mut self,
        script: &Arc<Script>,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        debugger: Box<Debugger>,
    ) -> Result<ScriptRun, ErrorReply> {
        let features = Features::new(self.settings.insecure_api.load(Relaxed)).debugged();
        let mut interpreter = Box::new(Interpreter::new(Kind::Scripts, features));
        self.give_stack(&mut interpreter)?;
        interpreter.attach(debugger);
        interpreter.start_script(script, keys, arguments, self.allowance());
        Ok(ScriptRun { interpreter: Some(interpreter) })
    }

    /// Goes on with a run for about `slice`, with a host that may be another one each time. A script that calls
    /// slow commands takes longer: it is left only between them. A panic of the host goes on in the caller; the
    /// run is over then.
    ///
    /// # Panics
    /// If the run is over.
    pub fn resume(&mut self, run: &mut ScriptRun, host: &mut dyn ScriptHost, slice: Duration) -> Progress {
        let Some(interpreter) = run.interpreter.as_mut() else { panic!("resumed a script that has ended") };
        let event = interpreter.resume(host, slice);
        if event == Event::SliceEnded {
            return Progress::Suspended;
        }
        let Some(mut interpreter) = run.interpreter.take() else { unreachable!("it was there") };
        let result = match event {
            Event::Finished => {
                let outcome = interpreter.take_outcome();
                self.put_back(interpreter);
                match outcome {
                    Outcome::Reply { reply, error_counted } => ScriptResult { reply, error_counted },
                    Outcome::Loaded | Outcome::None => {
                        ScriptResult { reply: Reply::Nil, error_counted: false }
                    }
                }
            }
            Event::HostPanicked => {
                let panic = interpreter.take_panic();
                self.discard(*interpreter);
                resume_unwind(panic.unwrap_or_else(|| Box::new("a script's host panicked")));
            }
            Event::MemoryExceeded | Event::SliceEnded => {
                let reply = memory_error(&interpreter.name());
                self.discard(*interpreter);
                ScriptResult { reply, error_counted: false }
            }
        };
        Progress::Done(result)
    }

    /// Ends a run that is not over, wherever it is. Nothing in the script can prevent or notice it.
    pub fn abandon(&mut self, run: ScriptRun) {
        if let Some(interpreter) = run.interpreter {
            self.discard(*interpreter);
        }
    }

    /// Ends a suspended run, as [`Engine::abandon`], and says what its client is answered: `message` (a whole error,
    /// code first), and the place at which the script was.
    pub fn kill(&mut self, run: ScriptRun, message: &str) -> ErrorReply {
        let text = run.interpreter.as_ref().map(|interpreter| interpreter.killed_error(message));
        self.abandon(run);
        ErrorReply::from_text(text.unwrap_or_else(|| message.as_bytes().to_vec()))
    }

    /// Checks that a script compiles, and keeps the compiled form. The error is the reply of SCRIPT LOAD and EVAL.
    pub fn compile(&mut self, script: &Arc<Script>) -> Result<(), ErrorReply> {
        let mut interpreter = self.interpreter(Kind::Scripts, Some(script))?;
        if interpreter.has_compiled(&script.digest()) {
            self.put_back(interpreter);
            return Ok(());
        }
        interpreter.start_compile(script, self.allowance());
        let mut run = ScriptRun { interpreter: Some(interpreter) };
        match self.resume(&mut run, &mut NoHost, Duration::MAX) {
            Progress::Done(ScriptResult { reply: Reply::Error(error), .. }) => Err(error),
            Progress::Done(_) | Progress::Suspended => Ok(()),
        }
    }

    /// FUNCTION LOAD: checks and runs the code of a library, at most for `time_limit` (`None` when it comes
    /// from a file or the primary), and returns the registry with it. `host` is asked for `redis.log` only.
    pub fn load_library(
        &mut self,
        registry: &Registry,
        code: &[u8],
        replace: bool,
        time_limit: Option<Duration>,
        host: &mut dyn ScriptHost,
    ) -> Result<(Registry, Arc<Library>), ErrorReply> {
        let metadata = library_metadata(code)?;
        registry.check_name(&metadata.name, replace)?;
        let code: Arc<[u8]> = Arc::from(code);
        let mut interpreter = self.interpreter(Kind::Functions, None)?;
        interpreter.start_load(&code, metadata.shebang_len, self.allowance());
        match interpreter.resume(host, time_limit.unwrap_or(Duration::MAX)) {
            Event::Finished => {}
            Event::SliceEnded => {
                self.discard(*interpreter);
                return Err(ErrorReply::new("ERR Error registering functions: ERR FUNCTION LOAD timeout"));
            }
            Event::MemoryExceeded => {
                self.discard(*interpreter);
                return Err(ErrorReply::new("ERR Error registering functions: ERR not enough memory"));
            }
            Event::HostPanicked => {
                let panic = interpreter.take_panic();
                self.discard(*interpreter);
                resume_unwind(panic.unwrap_or_else(|| Box::new("a script's host panicked")));
            }
        }
        if let Outcome::Reply { reply: Reply::Error(error), .. } = interpreter.take_outcome() {
            self.put_back(interpreter);
            return Err(error);
        }
        let loaded = interpreter.take_loaded();
        let references = loaded.iter().map(|function| function.reference).collect();
        let functions: Vec<Function> = loaded
            .into_iter()
            .map(|function| Function {
                name: function.name,
                description: function.description,
                flags: function.flags,
                statistics: Default::default(),
            })
            .collect();
        let is_empty = functions.is_empty();
        let library = Arc::new(Library::new(metadata.name, code, metadata.shebang_len, functions));
        // If it does not come into the registry, the next call of a function drops it.
        interpreter.keep_library(library.clone(), references);
        self.put_back(interpreter);
        if is_empty {
            return Err(ErrorReply::new("ERR No functions registered"));
        }
        Ok((registry.with(library.clone(), replace)?, library))
    }

    /// An interpreter with a stack, one that has compiled `script` if there is.
    fn interpreter(
        &mut self,
        kind: Kind,
        script: Option<&Arc<Script>>,
    ) -> Result<Box<Interpreter>, ErrorReply> {
        let features = Features::new(self.settings.insecure_api.load(Relaxed));
        if features != self.idle_features {
            self.clear();
            self.idle_features = features;
        }
        let idle = match kind {
            Kind::Scripts => &mut self.idle_scripts,
            Kind::Functions => &mut self.idle_functions,
        };
        let mut interpreter = match (idle.len(), script) {
            (2.., Some(script)) => {
                let digest = script.digest();
                let place = idle.iter().rposition(|interpreter| interpreter.has_compiled(&digest));
                Some(idle.swap_remove(place.unwrap_or(idle.len() - 1)))
            }
            _ => idle.pop(),
        }
        .unwrap_or_else(|| Box::new(Interpreter::new(kind, features)));
        self.give_stack(&mut interpreter)?;
        Ok(interpreter)
    }

    fn give_stack(&mut self, interpreter: &mut Interpreter) -> Result<(), ErrorReply> {
        if interpreter.needs_stack() {
            let stack = match self.stacks.pop() {
                Some(stack) => stack,
                None => Fiber::new_stack().map_err(|error| {
                    ErrorReply::from_text(format!("ERR Cannot allocate a stack for the script: {error}"))
                })?,
            };
            interpreter.set_stack(stack);
        }
        Ok(())
    }

    fn put_back(&mut self, interpreter: Box<Interpreter>) {
        let idle = match interpreter.kind() {
            Kind::Scripts => &mut self.idle_scripts,
            Kind::Functions => &mut self.idle_functions,
        };
        let is_current = interpreter.features() == self.idle_features;
        if idle.len() < IDLE_INTERPRETERS && is_current && !interpreter.is_bloated() {
            idle.push(interpreter);
        } else {
            self.discard(*interpreter);
        }
    }

    fn discard(&mut self, interpreter: Interpreter) {
        if let Some(stack) = interpreter.discard()
            && self.stacks.len() < IDLE_STACKS
        {
            self.stacks.push(stack);
        }
    }
}

/// A host for code that is trusted to ask for nothing: libraries that come from a file or the primary. What they
/// log is dropped.
pub struct NoHost;

impl ScriptHost for NoHost {
    fn call(&mut self, _arguments: &[&[u8]]) -> Reply<'_> {
        Reply::Error(ErrorReply::new("ERR no commands can be called here"))
    }

    fn set_response_protocol(&mut self, _version: u8) {}

    fn set_effect_targets(&mut self, _targets: super::host::EffectTargets) {}

    fn acl_check(&mut self, _arguments: &[&[u8]]) -> Option<bool> {
        None
    }

    fn log(&mut self, _level: super::host::LogLevel, _message: &[u8]) {}
}
