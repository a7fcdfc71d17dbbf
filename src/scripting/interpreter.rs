//! One Lua state, with its own memory account, fiber and compiled scripts. Runs one script at a time.
//!
//! Invariants: while no script runs, only the error handler is on Lua's stack and memory is not limited. A state
//! whose script was left in the middle is never used again: it is closed.

use std::alloc::{self, Layout};
use std::ffi::CStr;
use std::io;
use std::os::raw::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use corosensei::stack::DefaultStack;
use hashbrown::HashMap;
use mlua_sys::lua51::*;

use super::api;
use super::context::{self, Context, Job, Outcome};
use super::convert::ReplyNames;
use super::debugger::{self, Debugger};
use super::fiber::{Event, Fiber};
use super::functions::{FunctionHandle, Library, LoadedFunction, Registry};
use super::host::ScriptHost;
use super::libraries;
use super::random::Random;
use super::sandbox::{self, Features, Kind};
use super::scripts::{Script, ScriptDigest};
use super::ticks;
use crate::protocol::Reply;

/// Instructions between two looks at the clock.
const COUNT_HOOK_INSTRUCTIONS: c_int = 1000;
/// How many compiled scripts a state keeps.
const COMPILED_CAPACITY: usize = 1024;
/// A state that uses more, beside what its compiled scripts explain, is closed after the script.
const BLOATED_BYTES: usize = 16 << 20;
/// A state that uses more is closed on another thread.
const CLOSE_ELSEWHERE_BYTES: usize = 1 << 20;
/// Lua's own alignment: that of doubles and pointers.
const ALIGNMENT: usize = 8;

struct Compiled {
    reference: c_int,
    body_len: usize,
    used: u64,
}

struct LoadedLibrary {
    library: Arc<Library>,
    /// In the order of the library's functions.
    references: Vec<c_int>,
}

pub(super) struct Interpreter {
    context: NonNull<Context>,
    kind: Kind,
    features: Features,
    fiber: Option<Fiber>,
    compiled: HashMap<ScriptDigest, Compiled, foldhash::fast::RandomState>,
    body_bytes: usize,
    libraries: HashMap<String, LoadedLibrary, foldhash::fast::RandomState>,
    registry_version: u64,
    uses: u64,
}

// SAFETY: the state, the context and the fiber belong to the interpreter alone. No frame on the fiber holds a
// thread-local address while it is suspended, since it is suspended only by `context::suspend`, below which are
// only Lua's C frames and ours.
unsafe impl Send for Interpreter {}

impl Interpreter {
    pub(super) fn new(kind: Kind, features: Features) -> Self {
        let context = NonNull::from(Box::leak(Box::new(Context::new())));
        // SAFETY: a new state whose allocator gets its context; errors in here can only be for want of memory,
        // and abort in `on_panic`.
        unsafe {
            let lua = lua_newstate(allocate, context.as_ptr().cast());
            assert!(!lua.is_null(), "no memory for a Lua state");
            (*context.as_ptr()).lua = lua;
            lua_atpanic(lua, on_panic);
            let names = ReplyNames::intern(lua);
            let globals = sandbox::fill(lua, kind, features);
            (*context.as_ptr()).names = names;
            (*context.as_ptr()).globals = globals;
            ticks::lua_settick(lua, Some(context::on_tick));
            lua_sethook(lua, Some(context::on_count), LUA_MASKCOUNT, COUNT_HOOK_INSTRUCTIONS);
            lua_settop(lua, 0);
            lua_pushcclosure(lua, api::error_handler, 0);
        }
        Interpreter {
            context,
            kind,
            features,
            fiber: None,
            compiled: HashMap::default(),
            body_bytes: 0,
            libraries: HashMap::default(),
            registry_version: 0,
            uses: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// From now on the debugger is told of every line. The state was made to be debugged.
    pub(super) fn attach(&mut self, debugger: Box<Debugger>) {
        let context = self.context_mut();
        let lua = context.lua;
        context.debugger = Some(debugger);
        // SAFETY: the state is free; threads that the script makes get the same hook.
        unsafe {
            lua_sethook(lua, Some(debugger::on_event), LUA_MASKCOUNT | LUA_MASKLINE, COUNT_HOOK_INSTRUCTIONS);
        }
    }

    fn context(&self) -> &Context {
        // SAFETY: the fiber does not run now.
        unsafe { self.context.as_ref() }
    }

    fn context_mut(&mut self) -> &mut Context {
        // SAFETY: the fiber does not run now.
        unsafe { self.context.as_mut() }
    }

    /// The bytes that the Lua state uses.
    pub(super) fn used_bytes(&self) -> usize {
        self.context().used_bytes
    }

    /// The digest or name of what runs.
    pub(super) fn name(&self) -> Vec<u8> {
        self.context().job.name()
    }

    pub(super) fn has_compiled(&self, digest: &ScriptDigest) -> bool {
        self.compiled.contains_key(digest)
    }

    /// Whether a stack must be given with [`Interpreter::set_stack`] before the first resumption.
    pub(super) fn needs_stack(&self) -> bool {
        self.fiber.is_none()
    }

    pub(super) fn set_stack(&mut self, stack: DefaultStack) {
        // SAFETY: the context outlives the fiber, see `drop`, and is not touched while the fiber runs.
        let fiber = unsafe { Fiber::new(stack, self.context) };
        self.context_mut().stack_floor = fiber.floor();
        self.fiber = Some(fiber);
    }

    /// Prepares the next run.
    fn begin(&mut self, allowance_bytes: usize) -> *mut lua_State {
        self.uses += 1;
        let context = self.context_mut();
        context.allowance_bytes = allowance_bytes;
        context.protocol = 2;
        context.random = Random::default();
        context.outcome = Outcome::None;
        context.loading = None;
        context.lua
    }

    /// Prepares a run of a script.
    pub(super) fn start_script(
        &mut self,
        script: &Arc<Script>,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        allowance_bytes: usize,
    ) {
        let lua = self.begin(allowance_bytes);
        let names = self.context().names;
        let uses = self.uses;
        let reference = self.compiled.get_mut(&script.digest()).map(|compiled| {
            compiled.used = uses;
            compiled.reference
        });
        // SAFETY: memory is not limited, so nothing raises.
        unsafe {
            set_list(lua, names.keys, keys);
            set_list(lua, names.argv, arguments);
        }
        let context = self.context_mut();
        context.job = Job::Script { script: script.clone(), reference, is_new: false };
    }

    /// Prepares the compilation of a script.
    pub(super) fn start_compile(&mut self, script: &Arc<Script>, allowance_bytes: usize) {
        self.begin(allowance_bytes);
        self.context_mut().job = Job::Compile { script: script.clone(), reference: None };
    }

    /// Prepares a call of a function.
    pub(super) fn start_function(
        &mut self,
        registry: &Registry,
        function: &FunctionHandle,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        allowance_bytes: usize,
    ) {
        if self.registry_version != registry.version() {
            self.drop_libraries_not_in(registry);
        }
        let lua = self.begin(allowance_bytes);
        let library = &function.library;
        let reference =
            self.libraries.get(library.name()).filter(|loaded| Arc::ptr_eq(&loaded.library, library));
        let reference = reference.and_then(|loaded| loaded.references.get(function.index).copied());
        // SAFETY: memory is not limited, so nothing raises.
        unsafe {
            push_list(lua, keys);
            push_list(lua, arguments);
        }
        let context = self.context_mut();
        context.job =
            Job::Function { library: library.clone(), index: function.index, reference, loaded: None };
    }

    /// Prepares the loading of a library.
    pub(super) fn start_load(&mut self, code: &Arc<[u8]>, shebang_len: usize, allowance_bytes: usize) {
        self.begin(allowance_bytes);
        self.context_mut().job = Job::Load { code: code.clone(), shebang_len };
    }

    /// Runs what was started, for a slice. After `Event::Finished` the outcome is there and the interpreter is
    /// free; after `SliceEnded` it can be resumed; after all else it must be dropped.
    pub(super) fn resume(&mut self, host: &mut dyn ScriptHost, slice: Duration) -> Event {
        let host: NonNull<dyn ScriptHost + '_> = NonNull::from(host);
        let context = self.context_mut();
        // SAFETY: only the lifetime changes; the pointer is taken away again below.
        context.host = Some(unsafe {
            std::mem::transmute::<NonNull<dyn ScriptHost + '_>, NonNull<dyn ScriptHost>>(host)
        });
        context.slice_nanoseconds = slice.as_nanos().try_into().unwrap_or(u64::MAX);
        context.slice_started = None;
        let event = match &mut self.fiber {
            Some(fiber) => fiber.resume(),
            None => unreachable!("a run has a stack"),
        };
        self.context_mut().host = None;
        if event == Event::Finished {
            self.finish();
        }
        event
    }

    /// The error that ends a suspended run at the wish of its caller, which says so in `message`; with the place at
    /// which the script was left.
    pub(super) fn killed_error(&self, message: &str) -> Vec<u8> {
        let context = self.context();
        let mut text = message.as_bytes().to_vec();
        // SAFETY: the state is suspended, and is only looked at.
        unsafe {
            let mut activation: lua_Debug = std::mem::zeroed();
            let mut level = 0;
            while !context.suspended_in.is_null()
                && lua_getstack(context.suspended_in, level, &mut activation) != 0
            {
                level += 1;
                lua_getinfo(context.suspended_in, c"Sl".as_ptr(), &mut activation);
                if activation.currentline >= 0 {
                    text.extend_from_slice(b" script: ");
                    text.extend_from_slice(&context.job.name());
                    text.extend_from_slice(b", on ");
                    text.extend_from_slice(CStr::from_ptr(activation.source).to_bytes());
                    text.extend_from_slice(format!(":{}.", activation.currentline).as_bytes());
                    break;
                }
            }
        }
        text
    }

    /// What the host panicked with.
    pub(super) fn take_panic(&mut self) -> Option<Box<dyn std::any::Any + Send>> {
        self.context_mut().panic.take()
    }

    /// What came of the run.
    pub(super) fn take_outcome(&mut self) -> Outcome {
        std::mem::replace(&mut self.context_mut().outcome, Outcome::None)
    }

    /// What a library registered.
    pub(super) fn take_loaded(&mut self) -> Vec<LoadedFunction> {
        self.context_mut().loading.take().unwrap_or_default()
    }

    /// Keeps what the run compiled or loaded.
    fn finish(&mut self) {
        let uses = self.uses;
        let context = self.context_mut();
        let lua = context.lua;
        // What it borrows from the host is gone.
        context.command_reply = Reply::None;
        context.arguments.clear();
        context.shrink_buffers();
        match std::mem::replace(&mut context.job, Job::None) {
            Job::Script { script, reference: Some(reference), is_new: true }
            | Job::Compile { script, reference: Some(reference) } => {
                let body_len = script.body().len();
                self.keep_compiled(script.digest(), Compiled { reference, body_len, used: uses });
            }
            Job::Function { library, loaded: Some(references), .. } => {
                self.keep_library(library, references);
            }
            _ => {}
        }
        // SAFETY: the state is free.
        unsafe { libraries::reset_settings(lua) };
    }

    fn keep_compiled(&mut self, digest: ScriptDigest, compiled: Compiled) {
        if self.compiled.len() >= COMPILED_CAPACITY {
            self.drop_old_scripts();
        }
        self.body_bytes += compiled.body_len;
        if let Some(old) = self.compiled.insert(digest, compiled) {
            self.body_bytes -= old.body_len;
            self.forget(&[old.reference]);
        }
    }

    /// Drops the quarter of the scripts that was not used for longest.
    fn drop_old_scripts(&mut self) {
        let mut used: Vec<u64> = self.compiled.values().map(|compiled| compiled.used).collect();
        let quarter = used.len() / 4;
        let (_, oldest_kept, _) = used.select_nth_unstable(quarter);
        let oldest_kept = *oldest_kept;
        let dropped: Vec<Compiled> = self
            .compiled
            .extract_if(|_, compiled| compiled.used < oldest_kept)
            .map(|(_, compiled)| compiled)
            .collect();
        self.body_bytes -= dropped.iter().map(|compiled| compiled.body_len).sum::<usize>();
        let references: Vec<c_int> = dropped.iter().map(|compiled| compiled.reference).collect();
        self.forget(&references);
    }

    /// Keeps a library that was loaded in this state.
    pub(super) fn keep_library(&mut self, library: Arc<Library>, references: Vec<c_int>) {
        let name = library.name().to_owned();
        self.body_bytes += library.code().len();
        if let Some(old) = self.libraries.insert(name, LoadedLibrary { library, references }) {
            self.body_bytes -= old.library.code().len();
            self.forget(&old.references);
        }
    }

    fn drop_libraries_not_in(&mut self, registry: &Registry) {
        let stays = |loaded: &LoadedLibrary| {
            let current = registry.library(loaded.library.name().as_bytes());
            current.is_some_and(|library| Arc::ptr_eq(library, &loaded.library))
        };
        let dropped: Vec<LoadedLibrary> =
            self.libraries.extract_if(|_, loaded| !stays(loaded)).map(|(_, loaded)| loaded).collect();
        for loaded in dropped {
            self.body_bytes -= loaded.library.code().len();
            self.forget(&loaded.references);
        }
        self.registry_version = registry.version();
    }

    fn forget(&mut self, references: &[c_int]) {
        let lua = self.context_mut().lua;
        for reference in references {
            // SAFETY: the references are of this state's registry, and memory is not limited.
            unsafe { luaL_unref(lua, LUA_REGISTRYINDEX, *reference) };
        }
    }

    /// Whether the last script left so much behind that a new state is cheaper than collecting it.
    pub(super) fn is_bloated(&self) -> bool {
        self.used_bytes() > BLOATED_BYTES + 8 * self.body_bytes
    }

    /// Drops the interpreter, and takes its stack back.
    pub(super) fn discard(mut self) -> Option<DefaultStack> {
        self.fiber.take().map(Fiber::abandon)
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        if let Some(fiber) = self.fiber.take() {
            drop(fiber.abandon());
        }
        let closing = Closing(self.context);
        // The half of a result that was made so far can be large, while its tables are few.
        if self.used_bytes() + self.context().reply_bytes > CLOSE_ELSEWHERE_BYTES {
            // If there is no thread to be had, the closure is dropped here, and closes here.
            let _: io::Result<_> =
                thread::Builder::new().name("lua-close".into()).spawn(move || drop(closing));
        }
    }
}

/// A state that nobody uses any more.
struct Closing(NonNull<Context>);

// SAFETY: nobody else has the context.
unsafe impl Send for Closing {}

impl Drop for Closing {
    fn drop(&mut self) {
        // SAFETY: the state was left at an instruction or in a C function that may raise errors, so it is consistent;
        // no finalizers run. The context is the box that `new` leaked.
        unsafe {
            let context = self.0.as_ptr();
            (*context).limit_bytes = usize::MAX;
            (*context).on_fiber = false;
            lua_close((*context).lua);
            debug_assert_eq!((*context).used_bytes, 0, "an abandoned script leaked memory");
            drop(Box::from_raw(context));
        }
    }
}

unsafe extern "C-unwind" {
    /// Whether the table on the top of the stack has room for `count` items and holds nothing else.
    fn lua_isplainlist(lua: *mut lua_State, count: c_int) -> c_int;
    /// Sets an item, counted from 0, of the plain list on the top of the stack. May raise for want of memory.
    fn lua_setlistitem(lua: *mut lua_State, index: c_int, start: *const c_char, length: usize);
}

/// Pushes a table of strings.
unsafe fn push_list(lua: *mut lua_State, list: &[&[u8]]) {
    // SAFETY: passed on to the caller. The new table is a plain list of this length.
    unsafe {
        lua_createtable(lua, list.len() as c_int, 0);
        fill_list(lua, list);
    }
}

/// Makes the global `name` a table of strings. The table of the last script is filled anew if it is as a new one would be:
/// no script can have kept it.
unsafe fn set_list(lua: *mut lua_State, name: c_int, list: &[&[u8]]) {
    // SAFETY: passed on to the caller.
    unsafe {
        sandbox::push_global(lua, name);
        if lua_type(lua, -1) == LUA_TTABLE && lua_isplainlist(lua, list.len() as c_int) != 0 {
            fill_list(lua, list);
            lua_settop(lua, -2);
            return;
        }
        lua_settop(lua, -2);
        push_list(lua, list);
        sandbox::set_global(lua, name);
    }
}

/// Fills the plain list of the same length on the top of the stack.
unsafe fn fill_list(lua: *mut lua_State, list: &[&[u8]]) {
    for (index, item) in list.iter().enumerate() {
        // SAFETY: passed on to the caller.
        unsafe { lua_setlistitem(lua, index as c_int, item.as_ptr().cast(), item.len()) };
    }
}

/// Lua's allocator: counts what the state uses, and refuses what the script may not use.
unsafe extern "C" fn allocate(
    context: *mut c_void,
    block: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    let context: *mut Context = context.cast();
    // SAFETY: Lua gives back blocks with the sizes it got them with; the layouts are valid since Lua never asks
    // for more than half of the address space.
    unsafe {
        let used = (*context).used_bytes;
        if new == 0 {
            if !block.is_null() && old > 0 {
                alloc::dealloc(block.cast(), Layout::from_size_align_unchecked(old, ALIGNMENT));
                (*context).used_bytes = used - old;
            }
            return ptr::null_mut();
        }
        if new > isize::MAX as usize - ALIGNMENT {
            return ptr::null_mut();
        }
        let old = if block.is_null() { 0 } else { old };
        let after = used - old + new;
        if new > old && after > (*context).limit_bytes {
            (*context).limit_hit = true;
            return ptr::null_mut();
        }
        let block = if old == 0 {
            alloc::alloc(Layout::from_size_align_unchecked(new, ALIGNMENT))
        } else {
            alloc::realloc(block.cast(), Layout::from_size_align_unchecked(old, ALIGNMENT), new)
        };
        if !block.is_null() {
            (*context).used_bytes = after;
        }
        block.cast()
    }
}

/// An error outside of any protected call: only for want of memory that is not limited.
unsafe extern "C-unwind" fn on_panic(_lua: *mut lua_State) -> c_int {
    alloc::handle_alloc_error(Layout::new::<Context>())
}

/// The reply of a script that used too much memory.
pub(super) fn memory_error(name: &[u8]) -> Reply<'static> {
    let mut text = b"ERR Script used more memory than 'script-max-memory' allows. script: ".to_vec();
    text.extend_from_slice(name);
    Reply::Error(crate::protocol::ErrorReply::from_text(text))
}
