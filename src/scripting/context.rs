//! What belongs to one Lua state outside of Lua: its memory account, the script that runs, the host it may call,
//! and the buffers that must not lie on the script's stack. Reached from Lua as the allocator's user data.

use std::any::Any;
use std::os::raw::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use mlua_sys::lua51::{self, lua_Debug, lua_State};

use super::convert::{OpenReply, ReplyNames};
use super::debugger::Debugger;
use super::fiber::{Event, Suspender};
use super::functions::{Library, LoadedFunction};
use super::host::ScriptHost;
use super::random::Random;
use super::sandbox::Globals;
use super::scripts::Script;
use super::ticks;
use crate::base::tick_clock::{Moment, TickClock};
use crate::protocol::Reply;

/// What the fiber is to do.
pub(super) enum Job {
    None,
    /// Run a script that has this registry reference, or is to be compiled first.
    Script {
        script: Arc<Script>,
        reference: Option<c_int>,
        /// It has been compiled for this run.
        is_new: bool,
    },
    /// Compile a script without running it.
    Compile {
        script: Arc<Script>,
        reference: Option<c_int>,
    },
    /// Call a function, after its library has been loaded if it has not: `loaded` gets its references then.
    Function {
        library: Arc<Library>,
        index: usize,
        reference: Option<c_int>,
        loaded: Option<Vec<c_int>>,
    },
    /// Load a library: compile and run its code, and record what it registers.
    Load {
        code: Arc<[u8]>,
        shebang_len: usize,
    },
}

impl Job {
    /// The script's digest or the function's name, for error texts and for whoever asks what runs.
    pub(super) fn name(&self) -> Vec<u8> {
        match self {
            Job::Script { script, .. } | Job::Compile { script, .. } => script.digest().hex().to_vec(),
            Job::Function { library, index, .. } => library
                .functions()
                .get(*index)
                .map_or(Vec::new(), |function| function.name.clone().into_bytes()),
            Job::None | Job::Load { .. } => Vec::new(),
        }
    }
}

/// What came of a job.
pub(super) enum Outcome {
    None,
    /// The reply, and whether an error in it has been counted in the error statistics.
    Reply {
        reply: Reply<'static>,
        error_counted: bool,
    },
    /// A library was loaded, or a script compiled: what it registered is in `loading`.
    Loaded,
}

/// See the module's comment. Lives in a box of which only the pointer is kept: the fiber, Lua and the engine share
/// it, on one thread at a time, and none of them holds a reference across a call into another.
pub(super) struct Context {
    pub(super) lua: *mut lua_State,

    // Memory.
    pub(super) used_bytes: usize,
    /// Allocations that would exceed it fail. `usize::MAX` while no script runs.
    pub(super) limit_bytes: usize,
    /// What the running script may use, beside what was in use when it started.
    pub(super) allowance_bytes: usize,
    /// When more is used the collector is driven on.
    pub(super) collect_above_bytes: usize,
    /// `limit_bytes` was hit: the script ends, and the state with it.
    pub(super) limit_hit: bool,

    // Suspension.
    /// Null while no code runs on the fiber.
    pub(super) suspender: *const Suspender,
    pub(super) on_fiber: bool,
    /// The Lua thread that was running when the script was last suspended.
    pub(super) suspended_in: *mut lua_State,
    pub(super) clock: TickClock,
    pub(super) slice_nanoseconds: u64,
    /// Set at the first look at the clock in a slice, so that a short script never looks.
    pub(super) slice_started: Option<Moment>,
    pub(super) stack_floor: usize,

    // The run.
    pub(super) host: Option<NonNull<dyn ScriptHost>>,
    pub(super) panic: Option<Box<dyn Any + Send>>,
    pub(super) job: Job,
    pub(super) outcome: Outcome,
    /// The protocol version in which commands answer the script.
    pub(super) protocol: u8,
    pub(super) random: Random,
    /// The functions registered by the library that is being loaded; `None` if none is.
    pub(super) loading: Option<Vec<LoadedFunction>>,

    // Buffers for the fiber.
    pub(super) arguments: Vec<&'static [u8]>,
    pub(super) number_text: Vec<u8>,
    pub(super) text: Vec<u8>,
    pub(super) command_reply: Reply<'static>,
    /// Elements of replies that were given to the script since work was last counted.
    pub(super) reply_elements: usize,
    pub(super) open_replies: Vec<OpenReply>,
    pub(super) reply_bytes: usize,
    pub(super) names: ReplyNames,
    pub(super) globals: Globals,

    /// Of a script that is debugged.
    pub(super) debugger: Option<Box<Debugger>>,
}

impl Context {
    pub(super) fn new() -> Self {
        Context {
            lua: ptr::null_mut(),
            used_bytes: 0,
            limit_bytes: usize::MAX,
            allowance_bytes: usize::MAX,
            collect_above_bytes: usize::MAX,
            limit_hit: false,
            suspender: ptr::null(),
            on_fiber: false,
            suspended_in: ptr::null_mut(),
            clock: TickClock::default(),
            slice_nanoseconds: u64::MAX,
            slice_started: None,
            stack_floor: 0,
            host: None,
            panic: None,
            job: Job::None,
            outcome: Outcome::None,
            protocol: 2,
            random: Random::default(),
            loading: None,
            arguments: Vec::new(),
            number_text: Vec::new(),
            text: Vec::new(),
            command_reply: Reply::None,
            reply_elements: 0,
            open_replies: Vec::new(),
            reply_bytes: 0,
            names: ReplyNames::default(),
            globals: Globals::default(),
            debugger: None,
        }
    }

    /// From here on allocations count against the script.
    pub(super) fn limit_memory(&mut self) {
        self.limit_bytes = self.used_bytes.saturating_add(self.allowance_bytes);
        self.collect_above_bytes = self.used_bytes.saturating_add(self.allowance_bytes / 2);
    }

    /// Gives back what one script with large values made of the buffers.
    pub(super) fn shrink_buffers(&mut self) {
        const KEPT_BYTES: usize = 64 << 10;
        self.arguments.shrink_to(KEPT_BYTES / size_of::<&[u8]>());
        if self.text.capacity() > KEPT_BYTES {
            self.text = Vec::new();
        }
        if self.open_replies.capacity() > KEPT_BYTES / size_of::<OpenReply>() {
            self.open_replies = Vec::new();
        }
    }

    /// From here on allocations are the engine's own.
    pub(super) fn lift_limit(&mut self) {
        self.limit_bytes = usize::MAX;
    }
}

/// The context of a state.
///
/// # Safety
/// `lua` is live and was made by [`super::interpreter`].
#[inline]
pub(super) unsafe fn of(lua: *mut lua_State) -> *mut Context {
    let mut context: *mut c_void = ptr::null_mut();
    // SAFETY: reads the allocator's user data, which is the context.
    unsafe { lua51::lua_getallocf(lua, &mut context) };
    context.cast()
}

/// Leaves the fiber's stack. Returns when the script is resumed, perhaps never.
///
/// # Safety
/// Runs on the fiber of `context`, and nothing with a destructor is on its stack.
pub(super) unsafe fn suspend(context: *mut Context, event: Event) {
    // SAFETY: the suspender lives on the stack that we run on.
    unsafe { (*(*context).suspender).suspend(event) };
}

/// Leaves the fiber's stack for ever.
///
/// # Safety
/// As for [`suspend`].
pub(super) unsafe fn suspend_for_good(context: *mut Context, event: Event) -> ! {
    loop {
        // SAFETY: passed on to the caller.
        unsafe { suspend(context, event) };
    }
}

/// Lua's count hook: every so many instructions, or sooner when C code has used up its credit.
pub(super) unsafe extern "C-unwind" fn on_count(lua: *mut lua_State, _activation: *mut lua_Debug) {
    // SAFETY: called by Lua with a live state, between two instructions.
    unsafe {
        ticks::renew_credit(lua);
        let context = of(lua);
        // Near its limit a script pays with time for memory: the collector goes on without waiting, and after
        // each round rests until some more is used.
        if (*context).used_bytes > (*context).collect_above_bytes
            && lua51::lua_gc(lua, lua51::LUA_GCSTEP, 64) != 0
        {
            (*context).collect_above_bytes =
                (*context).used_bytes.saturating_add((*context).allowance_bytes / 16);
        }
        on_tick(lua);
    }
}

/// Looks at the clock, and suspends the script if its slice is over.
pub(super) unsafe extern "C-unwind" fn on_tick(lua: *mut lua_State) {
    // SAFETY: called by Lua with a live state, where it may be left.
    unsafe {
        let context = of(lua);
        if !(*context).on_fiber {
            return;
        }
        if (*context).limit_hit {
            suspend_for_good(context, Event::MemoryExceeded);
        }
        let now = (*context).clock.now();
        match (*context).slice_started {
            None => (*context).slice_started = Some(now),
            Some(started) => {
                if (*context).clock.nanoseconds(started, now) >= (*context).slice_nanoseconds {
                    (*context).suspended_in = lua;
                    suspend(context, Event::SliceEnded);
                }
            }
        }
    }
}
