//! The users of the running server: who may log in, what sessions are checked against, and what was refused.
//!
//! Users are an immutable snapshot that a change replaces. A session keeps its user and the number of the snapshot it is
//! from; as long as that number is the latest, a user who may do everything costs one load and one comparison.
//!
//! Invariants: a session whose user is gone runs nothing more; commands of the primary's stream and of files are not
//! checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::Server;
use super::client::{Client, Close};
use super::config::{AclPubsubDefault, Config, LineCheck, Text, UserLine};
use super::pubsub::Subject;
use super::session::{Origin, Session};
use super::table::{self, Entry, Table};
use crate::acl::{
    self, AclLog, ChannelDefault, Context, DEFAULT_USER, Denial, LogEntry, Reason, RuleError, User, Users,
    join_selectors,
};
use crate::command::Args;
use crate::protocol::ErrorReply;

/// A session's user.
#[derive(Debug, Clone)]
pub struct Identity {
    user: Arc<User>,
    /// The number of the snapshot that the user is from.
    version: u64,
    /// The same number if the user may do everything, otherwise one that no snapshot has.
    unrestricted_in: u64,
}

const NO_VERSION: u64 = u64::MAX;

impl Identity {
    fn new(user: Arc<User>, version: u64) -> Self {
        let unrestricted_in = if user.may_everything() { version } else { NO_VERSION };
        Identity { user, version, unrestricted_in }
    }

    /// For sessions that are not checked.
    pub fn unchecked() -> Self {
        Identity::new(Arc::new(User::unrestricted(DEFAULT_USER)), NO_VERSION)
    }

    pub fn user(&self) -> &User {
        &self.user
    }

    /// Is there certainly nothing to check? `false` may mean that the users have changed.
    #[inline]
    pub fn is_unrestricted(&self, users: &SharedUsers) -> bool {
        self.unrestricted_in == users.version.load(Ordering::Acquire)
    }
}

/// The users, shared by all threads.
#[derive(Debug)]
pub struct SharedUsers {
    /// Grows with every change.
    version: AtomicU64,
    current: RwLock<(u64, Arc<Users>)>,
    /// Held for the whole of a change, so that two changes never start from the same users.
    changing: Mutex<()>,
    /// Is the default user on and without a password?
    open_to_all: AtomicBool,
    log: Mutex<AclLog>,
    denied: [AtomicU64; 5],
    database_count: usize,
}

impl SharedUsers {
    fn new(users: Users, database_count: usize) -> Self {
        let shared = SharedUsers {
            version: AtomicU64::new(0),
            current: RwLock::new((0, Arc::new(Users::default()))),
            changing: Mutex::new(()),
            open_to_all: AtomicBool::new(true),
            log: Mutex::default(),
            denied: Default::default(),
            database_count,
        };
        shared.publish(users);
        shared
    }

    pub fn current(&self) -> Arc<Users> {
        self.current.read().1.clone()
    }

    /// Is the default user on and without a password?
    pub fn are_open_to_all(&self) -> bool {
        self.open_to_all.load(Ordering::Acquire)
    }

    /// What a session has before it authenticates.
    pub fn default_identity(&self) -> Identity {
        let (version, users) = self.current.read().clone();
        Identity::new(users.default_user().clone(), version)
    }

    fn publish(&self, users: Users) {
        let default = users.default_user();
        self.open_to_all.store(default.enabled && default.no_password, Ordering::Release);
        let mut current = self.current.write();
        *current = (current.0 + 1, Arc::new(users));
        // Under the lock, so that who sees the number finds the users or newer ones.
        self.version.store(current.0, Ordering::Release);
    }

    pub fn log(&self) -> parking_lot::MutexGuard<'_, AclLog> {
        self.log.lock()
    }

    /// How many calls or authentications were refused for this reason.
    pub fn denied(&self, reason: Reason) -> u64 {
        self.denied[reason as usize].load(Ordering::Relaxed)
    }

    /// Looks again whether the user is still there. `false`: it is not, and the connection is to end.
    fn refresh(&self, session: &mut Session) -> bool {
        if session.identity.version == self.version.load(Ordering::Acquire) {
            return true;
        }
        let (version, users) = self.current.read().clone();
        let name = &session.identity.user.name;
        match users.get(name) {
            Some(user) => {
                session.identity = Identity::new(user.clone(), version);
                true
            }
            None => {
                session.identity = Identity::new(users.default_user().clone(), version);
                session.authenticated = false;
                session.client.close(Close::AfterReplies);
                false
            }
        }
    }
}

/// The channels that a new user has.
pub fn channel_default(config: &Config) -> ChannelDefault {
    match config.acl_pubsub_default {
        AclPubsubDefault::Allchannels => ChannelDefault::All,
        AclPubsubDefault::Resetchannels => ChannelDefault::None,
    }
}

// ---- At the start ----

/// The users that the configuration asks for: `requirepass`, `user` lines or `aclfile`.
///
/// # Errors
/// Why the server cannot start; the log says more.
pub fn from_config(config: &Config, table: &Table) -> Result<SharedUsers, String> {
    let mut default = User::unrestricted(DEFAULT_USER);
    default.set_only_password(config.requirepass.as_bytes());
    let mut users = Users::new([default]);
    if !config.aclfile.is_empty() && !config.users.is_empty() {
        return Err("Configuring Valkey with users defined in valkey.conf and at the same setting an ACL file path is \
                    invalid. This setup is very likely to lead to configuration errors and security holes, please \
                    define either an ACL file or declare users directly in your valkey.conf, but not both."
            .into());
    }
    for line in &config.users {
        if let Err(error) = add_line(&mut users, line, config, table) {
            tracing::warn!("{error}");
            return Err("Critical error while loading ACLs. Exiting.".into());
        }
    }
    if !config.aclfile.is_empty() {
        users = read_file(config, table).map_err(|errors| {
            let errors = String::from_utf8_lossy(&errors).into_owned();
            format!("Aborting Valkey startup because of ACL errors: {errors}")
        })?;
    }
    Ok(SharedUsers::new(users, config.databases as usize))
}

fn add_line(users: &mut Users, line: &UserLine, config: &Config, table: &Table) -> Result<(), String> {
    let name = line.name.as_bytes();
    if !acl::is_valid_name(name) {
        return Err("Spaces not allowed in ACL usernames".into());
    }
    let mut user = User::new(name, channel_default(config));
    let words: Vec<&[u8]> = line.rules.iter().map(Text::as_bytes).collect();
    for rule in join_selectors(&words).unwrap_or_default() {
        user.apply(&rule, table, channel_default(config)).map_err(|error| {
            let (rule, name) = (String::from_utf8_lossy(&rule), line.name.to_str());
            format!("Error loading ACL rule '{rule}' for the user named '{name}': {error}")
        })?;
    }
    if !user.enabled {
        tracing::info!(
            "The user '{}' is disabled (there is no 'on' modifier in the user description). Make sure this is not a \
             configuration error.",
            line.name.to_str()
        );
    }
    users.put(user);
    Ok(())
}

fn read_file(config: &Config, table: &Table) -> Result<Users, Vec<u8>> {
    let shown = config.aclfile.to_str();
    let text = std::fs::read(config.aclfile.as_path()).map_err(|error| {
        let reason = super::config::system_reason(&error);
        format!("Error loading ACLs, opening file '{shown}': {reason}").into_bytes()
    })?;
    acl::load_file(&text, &shown, table, channel_default(config))
}

/// Judges `user` lines while the configuration is read. Commands that are not known yet are let pass.
#[derive(Debug)]
pub struct UserLines(Table);

impl Default for UserLines {
    fn default() -> Self {
        UserLines(table::build())
    }
}

impl LineCheck for UserLines {
    fn rename_command(&mut self, _name: &[u8], _new_name: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn user(&mut self, name: &[u8], rules: &[Text]) -> Result<(), String> {
        let words: Vec<&[u8]> = rules.iter().map(Text::as_bytes).collect();
        let wrong = |rule: &[u8], reason: &dyn std::fmt::Display| {
            format!("Error in user declaration '{}': {reason}", String::from_utf8_lossy(rule))
        };
        let rules = join_selectors(&words)
            .map_err(|index| wrong(words[index], &"Unmatched parenthesis in acl selector"))?;
        let mut user = User::new(name, ChannelDefault::None);
        for rule in &rules {
            match user.apply(rule, &self.0, ChannelDefault::None) {
                Ok(()) | Err(RuleError::UnknownCommand) => {}
                Err(error) => return Err(wrong(rule, &error)),
            }
        }
        Ok(())
    }
}

// ---- Checks ----

/// May the session make this call? What is refused is logged.
///
/// # Errors
/// What the client is told, without a code.
#[inline]
pub fn check(
    server: &Server,
    session: &mut Session,
    entry: &Entry,
    args: &Args<'_>,
    context: Context,
) -> Result<(), Refusal> {
    if session.identity.is_unrestricted(&server.users) {
        return Ok(());
    }
    check_restricted(server, session, entry, args, context)
}

fn check_restricted(
    server: &Server,
    session: &mut Session,
    entry: &Entry,
    args: &Args<'_>,
    context: Context,
) -> Result<(), Refusal> {
    let users = &server.users;
    if !is_checked(session) {
        return Ok(());
    }
    if !users.refresh(session) {
        return Err(Refusal { message: Vec::new(), denial: None });
    }
    let user = &session.identity.user;
    acl::check(user, entry, args, session.database, users.database_count).map_err(|denial| {
        let message = denial.message(user, entry);
        log_denial(server, &session.client, &user.name, denial, entry, args, context);
        Refusal { message, denial: Some(denial) }
    })
}

/// A call that is refused.
#[derive(Debug)]
pub struct Refusal {
    /// Without a code.
    pub message: Vec<u8>,
    /// `None`: the user is gone.
    pub denial: Option<Denial>,
}

impl Refusal {
    /// What a client is told.
    pub fn reply(&self) -> ErrorReply {
        match self.denial {
            Some(_) => ErrorReply::from_text([b"NOPERM ".as_slice(), &self.message].concat()),
            None => ErrorReply::new("NOAUTH Authentication required."),
        }
    }
}

/// The error for a call that would read keys which its arguments do not name, if the user may not read every key.
#[inline]
pub fn refuse_unnamed_reads(
    server: &Server,
    session: &mut Session,
    entry: &Entry,
    args: &Args<'_>,
) -> Result<(), ErrorReply> {
    match entry.spec.unnamed_reads {
        None => Ok(()),
        Some(unnamed_reads) => refuse_reads(server, session, entry, args, unnamed_reads),
    }
}

fn refuse_reads(
    server: &Server,
    session: &mut Session,
    entry: &Entry,
    args: &Args<'_>,
    unnamed_reads: fn(&Args<'_>) -> Option<ErrorReply>,
) -> Result<(), ErrorReply> {
    if session.identity.is_unrestricted(&server.users) || !is_checked(session) {
        return Ok(());
    }
    let (user, count) = (&session.identity.user, server.users.database_count);
    match unnamed_reads(args) {
        Some(error) if !acl::reads_every_key(user, entry, args, session.database, count) => Err(error),
        _ => Ok(()),
    }
}

/// Would the session be let make this call? Nothing is logged.
pub fn would_allow(server: &Server, session: &mut Session, entry: &Entry, args: &Args<'_>) -> bool {
    !is_checked(session)
        || server.users.refresh(session)
            && acl::check(&session.identity.user, entry, args, session.database, server.users.database_count)
                .is_ok()
}

fn is_checked(session: &Session) -> bool {
    matches!(session.origin, Origin::Client | Origin::Script | Origin::Rehearsal)
}

/// May a call that waited be run now on behalf of its client?
pub fn check_waiting(
    server: &Server,
    client: &Client,
    entry: &Entry,
    args: &Args<'_>,
    database: usize,
) -> Result<(), ErrorReply> {
    let users = server.users.current();
    let name = client.labels.lock().user.clone();
    let Some(user) = users.get(&name) else {
        return Err(ErrorReply::new("NOAUTH Authentication required."));
    };
    if user.may_everything() {
        return Ok(());
    }
    acl::check(user, entry, args, database, server.users.database_count).map_err(|denial| {
        log_denial(server, client, &name, denial, entry, args, Context::TopLevel);
        Refusal { message: denial.message(user, entry), denial: Some(denial) }.reply()
    })
}

fn log_denial(
    server: &Server,
    client: &Client,
    user: &[u8],
    denial: Denial,
    entry: &Entry,
    args: &Args<'_>,
    context: Context,
) {
    log(server, client, user, denial.reason, denial.object(entry, args), context);
}

fn log(server: &Server, client: &Client, user: &[u8], reason: Reason, object: &[u8], context: Context) {
    server.users.denied[reason as usize].fetch_add(1, Ordering::Relaxed);
    let shown = super::commands::client::describe(server, client);
    let entry = LogEntry::new(reason, context, object, user, shown, server.now_ms());
    server.users.log.lock().add(entry, server.config().acllog_max_len as usize);
}

// ---- Authentication ----

/// Lets the session be `name` if the password fits. `command` is what the client called, for the log.
///
/// # Errors
/// WRONGPASS.
pub fn authenticate(
    server: &Server,
    session: &mut Session,
    command: &[u8],
    name: &[u8],
    password: &[u8],
    context: Context,
) -> Result<(), ErrorReply> {
    let (version, users) = server.users.current.read().clone();
    match users.get(name).filter(|user| user.accepts(password)) {
        Some(user) => {
            become_user(session, Identity::new(user.clone(), version));
            session.authenticated = true;
            Ok(())
        }
        None => {
            log(server, &session.client, name, Reason::Authentication, command, context);
            Err(ErrorReply::new("WRONGPASS invalid username-password pair or user is disabled."))
        }
    }
}

/// A new connection, and what RESET makes of one.
pub fn begin(server: &Server, session: &mut Session) {
    become_user(session, server.users.default_identity());
    session.authenticated = server.users.are_open_to_all();
}

fn become_user(session: &mut Session, identity: Identity) {
    session.client.labels.lock().user.clone_from(&identity.user.name);
    session.identity = identity;
}

// ---- Changes ----

impl Server {
    /// ACL SETUSER: all of the rules or none.
    ///
    /// # Errors
    /// What is wrong with the rules, without a code.
    pub fn set_user(&self, own: &Client, name: &[u8], rules: &[&[u8]]) -> Result<(), Vec<u8>> {
        let _changing = self.users.changing.lock();
        let mut users = Users::clone(&self.users.current());
        let default = channel_default(&self.config());
        let old = users.get(name).cloned();
        let mut user = old.as_ref().map_or_else(|| User::new(name, default), |old| User::clone(old));
        user.apply_all(rules, self.table, default).map_err(|error| error.to_text())?;
        let remaining = old.and_then(|old| user.fewer_channels(&old));
        users.put(user);
        self.users.publish(users);
        if let Some(remaining) = remaining {
            self.close_subscribers(own, name, &remaining);
        }
        Ok(())
    }

    /// ACL DELUSER: ends the connections of these users. Returns how many there were.
    pub fn delete_users(&self, own: &Client, names: &[&[u8]]) -> usize {
        let _changing = self.users.changing.lock();
        let mut users = Users::clone(&self.users.current());
        let deleted: Vec<&[u8]> = names.iter().copied().filter(|name| users.remove(name)).collect();
        if !deleted.is_empty() {
            self.users.publish(users);
            self.close_clients_without_user(own);
        }
        deleted.len()
    }

    /// ACL LOAD: the users of the file instead of those of now, or, if anything is wrong with it, no change.
    ///
    /// # Errors
    /// What is wrong, without a code.
    pub fn load_users(&self, own: &Client) -> Result<(), Vec<u8>> {
        let _changing = self.users.changing.lock();
        let users = read_file(&self.config(), self.table)?;
        let old = self.users.current();
        let fewer: Vec<(Vec<u8>, Vec<Vec<u8>>)> = users
            .iter()
            .filter_map(|user| Some((user.name.clone(), user.fewer_channels(old.get(&user.name)?)?)))
            .collect();
        self.users.publish(users);
        self.close_clients_without_user(own);
        for (name, remaining) in fewer {
            self.close_subscribers(own, &name, &remaining);
        }
        Ok(())
    }

    /// `requirepass` was set.
    pub fn set_default_password(&self, password: &[u8]) {
        let _changing = self.users.changing.lock();
        let mut users = Users::clone(&self.users.current());
        let mut default = User::clone(users.default_user());
        default.set_only_password(password);
        users.put(default);
        self.users.publish(users);
    }

    fn close_clients_without_user(&self, own: &Client) {
        let users = self.users.current();
        for client in self.clients.all() {
            if users.get(&client.labels.lock().user).is_none() {
                close(&client, own);
            }
        }
    }

    /// Ends the connections of a user that are subscribed to what it may no longer hear.
    fn close_subscribers(&self, own: &Client, name: &[u8], remaining: &[Vec<u8>]) {
        let refused = |subject: Subject, channel: &[u8]| {
            !User::may_stay_subscribed(remaining, channel, subject == Subject::Pattern)
        };
        for client in self.pubsub.subscribers_where(refused) {
            if client.labels.lock().user == name {
                close(&client, own);
            }
        }
    }

    /// A session has subscribed: were its user's channels taken away while it did?
    pub fn recheck_subscriptions(&self, session: &mut Session) {
        if session.identity.version == self.users.version.load(Ordering::Acquire) {
            return;
        }
        let old = session.identity.user.clone();
        if !self.users.refresh(session) {
            return;
        }
        if let Some(remaining) = session.identity.user.fewer_channels(&old) {
            let plain = session.channels.iter().chain(&session.shard_channels).map(|name| (name, false));
            let mut all = plain.chain(session.patterns.iter().map(|name| (name, true)));
            if all.any(|(name, is_pattern)| !User::may_stay_subscribed(&remaining, name, is_pattern)) {
                session.client.close(Close::Now);
            }
        }
    }
}

/// The client that asked for it gets its reply first.
fn close(client: &Client, own: &Client) {
    client.close(if client.number == own.number { Close::AfterReplies } else { Close::Now });
}
