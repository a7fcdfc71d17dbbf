//! What we change in Lua 5.1.5 before it is compiled: anchored edits, each of which must match the given
//! number of times, so that another version of the sources fails the build instead of losing a protection.

use std::fs;
use std::path::Path;

/// One protection or service: a set of edits that belong together.
pub struct Patch {
    pub name: &'static str,
    pub edits: &'static [Edit],
}

/// Replaces `find` by `replace` in `file`, where it must occur exactly `count` times.
pub struct Edit {
    pub file: &'static str,
    pub count: usize,
    pub find: &'static str,
    pub replace: &'static str,
}

impl Patch {
    /// Applies the edits to the sources in `folder`. Panics (fails the build) if one does not match.
    pub fn apply(&self, folder: &Path) {
        for edit in self.edits {
            let path = folder.join(edit.file);
            let source = fs::read_to_string(&path).expect("a Lua source can be read");
            let found = source.matches(edit.find).count();
            assert_eq!(
                found, edit.count,
                "patch {:?} of {}: {:?} occurs {found} times",
                self.name, edit.file, edit.find
            );
            fs::write(&path, source.replace(edit.find, edit.replace)).expect("OUT_DIR can be written");
        }
    }
}

const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, count: 1, find, replace }
}

const fn edits(count: usize, file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, count, find, replace }
}

pub const PATCHES: &[Patch] = &[
    STRING_HASH,
    CALLS_AT_ONCE,
    DIRECT_LOOKUPS,
    WORK_CREDIT,
    HOOKS_IN_HOOKS,
    LONG_STRING_LOOPS,
    LONG_PATTERN_LOOPS,
    PATTERN_DEPTH,
    LONG_TABLE_LOOPS,
    LONG_ARGUMENT_LISTS,
    LONG_COLLECTION,
    LONG_PARSING,
    READ_ONLY_TABLES,
    NO_BYTECODE,
    CHUNK_NAME_ANCHORED,
    SCANNER_BUFFER_OWNED,
    UNPACK_COUNT_UNSIGNED,
    LONG_BRACKET_LEVEL,
    NO_FINALIZERS,
    NO_THREAD_ENVIRONMENT,
];

/// Strings are hashed by MurmurHash3 (x86, 32 bits, Austin Appleby, public domain), seeded with their length: four bytes
/// at a time, which is what the cost of most replies comes to; and tables give their pairs in the order that scripts
/// know from Valkey. Of strings of more than 4 KB only the ends count, so that making one costs little beside its copy.
/// Strings of the same hash are compared by words when they are short.
const STRING_HASH: Patch = Patch {
    name: "string hash",
    edits: &[
        edit(
            "lstring.c",
            "TString *luaS_newlstr (lua_State *L, const char *str, size_t l) {\n",
            "static unsigned int rotated (unsigned int x, int by) {\n\
             \x20 return (x << by) | (x >> (32 - by));\n\
             }\n\
             static unsigned int scrambled (unsigned int block) {\n\
             \x20 return rotated(block * 0xcc9e2d51u, 15) * 0x1b873593u;\n\
             }\n\
             static unsigned int mixed (unsigned int h, const char *str, const char *end) {\n\
             \x20 unsigned int block;\n\
             \x20 for (; str != end; str += 4) {\n\
             \x20   memcpy(&block, str, 4);\n\
             \x20   h = rotated(h ^ scrambled(block), 13) * 5 + 0xe6546b64u;\n\
             \x20 }\n\
             \x20 return h;\n\
             }\n\
             static unsigned int hash_of (const char *str, size_t l) {\n\
             \x20 unsigned int h = (unsigned int)l, block;\n\
             \x20 const char *end = str + (l & ~(size_t)3);\n\
             \x20 if (l <= 4096) h = mixed(h, str, end);\n\
             \x20 else h = mixed(mixed(h, str, str + 2048), end - 2048, end);\n\
             \x20 str = end;\n\
             \x20 if (l & 3) {\n\
             \x20   block = (unsigned char)str[0];\n\
             \x20   if ((l & 3) > 1) block |= (unsigned int)(unsigned char)str[1] << 8;\n\
             \x20   if ((l & 3) > 2) block |= (unsigned int)(unsigned char)str[2] << 16;\n\
             \x20   h ^= scrambled(block);\n\
             \x20 }\n\
             \x20 h ^= (unsigned int)l;\n\
             \x20 h = (h ^ (h >> 16)) * 0x85ebca6bu;\n\
             \x20 h = (h ^ (h >> 13)) * 0xc2b2ae35u;\n\
             \x20 return h ^ (h >> 16);\n\
             }\n\
             static int are_same (const char *a, const char *b, size_t l) {\n\
             \x20 unsigned long long a8, b8, a9, b9;\n\
             \x20 unsigned int a4, b4, a5, b5;\n\
             \x20 if (l > 16) return memcmp(a, b, l) == 0;\n\
             \x20 if (l >= 8) {\n\
             \x20   memcpy(&a8, a, 8); memcpy(&b8, b, 8); memcpy(&a9, a + l - 8, 8); memcpy(&b9, b + l - 8, 8);\n\
             \x20   return ((a8 ^ b8) | (a9 ^ b9)) == 0;\n\
             \x20 }\n\
             \x20 if (l >= 4) {\n\
             \x20   memcpy(&a4, a, 4); memcpy(&b4, b, 4); memcpy(&a5, a + l - 4, 4); memcpy(&b5, b + l - 4, 4);\n\
             \x20   return ((a4 ^ b4) | (a5 ^ b5)) == 0;\n\
             \x20 }\n\
             \x20 return l == 0 || (a[0] == b[0] && a[l / 2] == b[l / 2] && a[l - 1] == b[l - 1]);\n\
             }\n\
             \n\
             TString *luaS_newlstr (lua_State *L, const char *str, size_t l) {\n",
        ),
        edit(
            "lstring.c",
            "  unsigned int h = cast(unsigned int, l);  /* seed */\n\
             \x20 size_t step = (l>>5)+1;  /* if string is too long, don't hash all its chars */\n\
             \x20 size_t l1;\n\
             \x20 for (l1=l; l1>=step; l1-=step)  /* compute hash */\n\
             \x20   h = h ^ ((h<<5)+(h>>2)+cast(unsigned char, str[l1-1]));\n",
            "  unsigned int h = hash_of(str, l);\n",
        ),
        edit(
            "lstring.c",
            "    if (ts->tsv.len == l && (memcmp(str, getstr(ts), l) == 0)) {\n",
            "    if (ts->tsv.hash == h && ts->tsv.len == l && are_same(str, getstr(ts), l)) {\n",
        ),
    ],
};

/// What every call of a command needs of the stack, in one step each: its arguments when all are strings, and the string
/// that takes their place; or that its caller has no use for a result. And what every script needs: the lists of its keys and arguments in tables that are there.
const CALLS_AT_ONCE: Patch = Patch {
    name: "calls at once",
    edits: &[edit(
        "lapi.c",
        "LUA_API void lua_pushstring (lua_State *L, const char *s) {\n",
        "typedef struct lua_Bytes { const char *start; size_t length; } lua_Bytes;\n\
         \n\
         LUA_API int lua_stringarguments (lua_State *L, lua_Bytes *bytes, int most) {\n\
         \x20 int n = cast_int(L->top - L->base), i;\n\
         \x20 if (n > most) return -1;\n\
         \x20 for (i = 0; i < n; i++) {\n\
         \x20   const TValue *o = L->base + i;\n\
         \x20   if (!ttisstring(o)) return -1;\n\
         \x20   bytes[i].start = svalue(o);\n\
         \x20   bytes[i].length = tsvalue(o)->len;\n\
         \x20 }\n\
         \x20 return n;\n\
         }\n\
         \n\
         LUA_API void lua_stringresult (lua_State *L, const char *start, size_t length) {\n\
         \x20 L->top = L->base;\n\
         \x20 luaC_checkGC(L);\n\
         \x20 setsvalue2s(L, L->top, luaS_newlstr(L, start, length));\n\
         \x20 api_incr_top(L);\n\
         }\n\
         \n\
         LUA_API int lua_wantsnothing (lua_State *L) {\n\
         \x20 return L->ci->nresults == 0;\n\
         }\n\
         \n\
         LUA_API int lua_isplainlist (lua_State *L, int n) {\n\
         \x20 const Table *t = hvalue(L->top - 1);\n\
         \x20 return t->sizearray == n && t->metatable == NULL && t->lsizenode == 0 && ttisnil(gval(gnode(t, 0)));\n\
         }\n\
         \n\
         LUA_API void lua_setlistitem (lua_State *L, int i, const char *start, size_t length) {\n\
         \x20 Table *t = hvalue(L->top - 1);\n\
         \x20 luaC_checkGC(L);\n\
         \x20 setsvalue2n(L, &t->array[i], luaS_newlstr(L, start, length));\n\
         \x20 luaC_barriert(L, t, &t->array[i]);\n\
         }\n\
         \n\
         LUA_API void lua_pushstring (lua_State *L, const char *s) {\n",
    )],
};

/// A global or an index that is in its table is read at once; the general way, which knows metatables, is for the others.
const DIRECT_LOOKUPS: Patch = Patch {
    name: "direct lookups",
    edits: &[
        edit(
            "lvm.c",
            "        lua_assert(ttisstring(rb));\n        Protect(luaV_gettable(L, &g, rb, ra));\n",
            "        const TValue *found = luaH_getstr(cl->env, rawtsvalue(rb));\n\
             \x20       if (!ttisnil(found)) {\n\
             \x20         setobj2s(L, ra, found);\n\
             \x20         continue;\n\
             \x20       }\n\
             \x20       Protect(luaV_gettable(L, &g, rb, ra));\n",
        ),
        edit(
            "lvm.c",
            "      case OP_GETTABLE: {\n",
            "      case OP_GETTABLE: {\n\
             \x20       const TValue *rb = RB(i);\n\
             \x20       if (ttistable(rb)) {\n\
             \x20         const TValue *rc = RKC(i);\n\
             \x20         const TValue *found = ttisstring(rc) ? luaH_getstr(hvalue(rb), rawtsvalue(rc))\n\
             \x20                                              : luaH_get(hvalue(rb), rc);\n\
             \x20         if (!ttisnil(found)) {\n\
             \x20           setobj2s(L, ra, found);\n\
             \x20           continue;\n\
             \x20         }\n\
             \x20       }\n",
        ),
    ],
};

/// The count hook sees only virtual machine instructions; work done in C counts against a credit in the
/// global state. Where a C function can be left (it holds nothing that an abandoned stack would leak),
/// `lua_work` calls the tick function as soon as the credit is used up. Where it cannot, `luai_charge` makes
/// the count hook fire at the next instruction instead.
const WORK_CREDIT: Patch = Patch {
    name: "work credit",
    edits: &[
        edit(
            "lua.h",
            "LUA_API int lua_gethookcount (lua_State *L);",
            "LUA_API int lua_gethookcount (lua_State *L);\n\
             #define LUA_WORK_CREDIT 4096\n\
             typedef void (*lua_Tick) (lua_State *L);\n\
             LUA_API void lua_settick (lua_State *L, lua_Tick tick);\n\
             LUA_API int *lua_workcredit (lua_State *L);\n\
             LUA_API void lua_tick (lua_State *L);\n\
             LUA_API void lua_workdone (lua_State *L, size_t units);\n\
             #define lua_work(L, units) \\\n\
             \t{ int *credit_ = lua_workcredit(L); \\\n\
             \t  if ((*credit_ -= (units)) <= 0) lua_tick(L); }\n",
        ),
        edit(
            "lstate.h",
            "  int gcpause;  ",
            "  int credit;  /* work that C code may do before the next tick */\n  lua_Tick tick;\n  int gcpause;  ",
        ),
        edit(
            "lstate.h",
            "#define G(L)\t(L->l_G)\n",
            "#define G(L)\t(L->l_G)\n\
             #define luai_charge(L, units) \\\n\
             \t{ if ((G(L)->credit -= (units)) <= 0) { G(L)->credit = 0; (L)->hookcount = 1; } }\n",
        ),
        edit(
            "lstate.c",
            "  g->panic = NULL;\n",
            "  g->panic = NULL;\n  g->credit = LUA_WORK_CREDIT;\n  g->tick = NULL;\n",
        ),
        edit(
            "lapi.c",
            "LUA_API int lua_error (lua_State *L) {",
            "LUA_API void lua_settick (lua_State *L, lua_Tick tick) {\n  G(L)->tick = tick;\n}\n\n\
             LUA_API int *lua_workcredit (lua_State *L) {\n  return &G(L)->credit;\n}\n\n\
             LUA_API void lua_tick (lua_State *L) {\n\
             \x20 G(L)->credit = LUA_WORK_CREDIT;\n\
             \x20 if (G(L)->tick) G(L)->tick(L);\n}\n\n\
             LUA_API void lua_workdone (lua_State *L, size_t units) {\n\
             \x20 lua_work(L, units > LUA_WORK_CREDIT ? LUA_WORK_CREDIT : (int)units);\n}\n\n\
             LUA_API int lua_error (lua_State *L) {",
        ),
    ],
};

/// What the debugger evaluates runs within a hook, where Lua calls none: it could not be left.
const HOOKS_IN_HOOKS: Patch = Patch {
    name: "hooks in hooks",
    edits: &[
        edit(
            "lua.h",
            "LUA_API int lua_gethookcount (lua_State *L);",
            "LUA_API int lua_gethookcount (lua_State *L);\n\
             LUA_API void lua_allowhook (lua_State *L, int allow);\n",
        ),
        edit(
            "lapi.c",
            "LUA_API int lua_error (lua_State *L) {",
            "LUA_API void lua_allowhook (lua_State *L, int allow) {\n\
             \x20 L->allowhook = cast_byte(allow != 0);\n}\n\n\
             LUA_API int lua_error (lua_State *L) {",
        ),
    ],
};

/// `string.rep`, `upper`, `reverse`, `format`, `gsub`, `table.concat` and all else that builds a string goes
/// through `luaL_Buffer`: each filled buffer counts. `addlstring` copies blocks instead of single characters.
/// Concatenation and comparison in the virtual machine are charged by length.
const LONG_STRING_LOOPS: Patch = Patch {
    name: "long string loops",
    edits: &[
        edit(
            "lauxlib.c",
            "LUALIB_API char *luaL_prepbuffer (luaL_Buffer *B) {\n",
            "LUALIB_API char *luaL_prepbuffer (luaL_Buffer *B) {\n  lua_work(B->L, LUAL_BUFFERSIZE / 16);\n",
        ),
        edit(
            "lauxlib.c",
            "  while (l--)\n    luaL_addchar(B, *s++);\n",
            "  while (l > 0) {\n\
             \x20   size_t n = bufffree(B);\n\
             \x20   if (n == 0) {\n\
             \x20     luaL_prepbuffer(B);\n\
             \x20     n = LUAL_BUFFERSIZE;\n\
             \x20   }\n\
             \x20   if (n > l) n = l;\n\
             \x20   memcpy(B->p, s, n);\n\
             \x20   B->p += n; s += n; l -= n;\n\
             \x20 }\n",
        ),
        edit(
            "lauxlib.c",
            "  if (vl <= bufffree(B)) {  /* fit into buffer? */",
            "  lua_workdone(L, 1 + vl / 64);\n  if (vl <= bufffree(B)) {  /* fit into buffer? */",
        ),
        // The length is known beforehand, so that memory that is not there is refused at once.
        edit(
            "lstrlib.c",
            "  size_t l;\n  luaL_Buffer b;\n  const char *s = luaL_checklstring(L, 1, &l);\n  int n = luaL_checkint(L, 2);\n",
            "  size_t l, total, done;\n  char *b;\n  const char *s = luaL_checklstring(L, 1, &l);\n  int n = luaL_checkint(L, 2);\n",
        ),
        edit(
            "lstrlib.c",
            "  luaL_buffinit(L, &b);\n  while (n-- > 0)\n    luaL_addlstring(&b, s, l);\n  luaL_pushresult(&b);\n",
            "  if (l == 0 || n <= 0) {\n\
             \x20   lua_pushliteral(L, \"\");\n\
             \x20   return 1;\n\
             \x20 }\n\
             \x20 if ((size_t)n > (~(size_t)0 / 2) / l)\n\
             \x20   luaL_error(L, \"resulting string too large\");\n\
             \x20 total = l * (size_t)n;\n\
             \x20 b = (char *)lua_newuserdata(L, total);\n\
             \x20 memcpy(b, s, l);\n\
             \x20 for (done = l; done < total; ) {\n\
             \x20   size_t block = done - done % l;  /* what is there, repeated */\n\
             \x20   if (block > 65536) block = l > 65536 ? l : 65536 - 65536 % l;\n\
             \x20   if (block > total - done) block = total - done;\n\
             \x20   memcpy(b + done, b, block);\n\
             \x20   done += block;\n\
             \x20   lua_workdone(L, 1 + block / 16);\n\
             \x20 }\n\
             \x20 lua_pushlstring(L, b, total);\n",
        ),
        edit(
            "lvm.c",
            "      buffer = luaZ_openspace(L, &G(L)->buff, tl);\n",
            "      luai_charge(L, tl > 1000000 ? 62500 : (int)(tl / 16));\n\
             \x20     buffer = luaZ_openspace(L, &G(L)->buff, tl);\n",
        ),
        // Making a string: the copy, and the comparison with all that have the same hash.
        edit(
            "lstring.c",
            "  unsigned int h = hash_of(str, l);\n",
            "  unsigned int h = hash_of(str, l);\n  size_t units = l >> 6;\n",
        ),
        edit(
            "lstring.c",
            "    if (ts->tsv.hash == h && ts->tsv.len == l && are_same(str, getstr(ts), l)) {\n",
            "    units += (ts->tsv.hash == h && ts->tsv.len == l) ? 1 + (l >> 6) : 1;\n\
             \x20   if (ts->tsv.hash == h && ts->tsv.len == l && are_same(str, getstr(ts), l)) {\n\
             \x20     if (units > 16) luai_charge(L, units > LUA_WORK_CREDIT ? LUA_WORK_CREDIT : (int)units);\n",
        ),
        edit(
            "lstring.c",
            "  return newlstr(L, str, l, h);  /* not found */\n",
            "  if (units > 16) luai_charge(L, units > LUA_WORK_CREDIT ? LUA_WORK_CREDIT : (int)units);\n\
             \x20 return newlstr(L, str, l, h);  /* not found */\n",
        ),
        // Reading a number: no numeral is as long as what could hold up the reader.
        edit(
            "lvm.c",
            "  if (ttisstring(obj) && luaO_str2d(svalue(obj), &num)) {\n",
            "  if (ttisstring(obj) && tsvalue(obj)->len <= 4096 && luaO_str2d(svalue(obj), &num)) {\n",
        ),
        edit(
            "lbaselib.c",
            "    n = strtoul(s1, &s2, base);\n",
            "    if (lua_strlen(L, 1) > 4096) {\n\
             \x20     lua_pushnil(L);\n\
             \x20     return 1;\n\
             \x20   }\n\
             \x20   n = strtoul(s1, &s2, base);\n",
        ),
        edit(
            "lvm.c",
            "    return l_strcmp(rawtsvalue(l), rawtsvalue(r)) < 0;",
            "    { luai_charge(L, tsvalue(l)->len > 1000000 ? 62500 : (int)(tsvalue(l)->len / 16));\n\
             \x20   return l_strcmp(rawtsvalue(l), rawtsvalue(r)) < 0; }",
        ),
        edit(
            "lvm.c",
            "    return l_strcmp(rawtsvalue(l), rawtsvalue(r)) <= 0;",
            "    { luai_charge(L, tsvalue(l)->len > 1000000 ? 62500 : (int)(tsvalue(l)->len / 16));\n\
             \x20   return l_strcmp(rawtsvalue(l), rawtsvalue(r)) <= 0; }",
        ),
    ],
};

/// Matching a pattern can take time exponential in the pattern's length, in one call: every step counts, and
/// so does every comparison of a plain search.
const LONG_PATTERN_LOOPS: Patch = Patch {
    name: "long pattern loops",
    edits: &[
        edit(
            "lstrlib.c",
            "  lua_State *L;\n  int level;",
            "  lua_State *L;\n  int *credit;  /* what may be done before the next tick */\n  int depth;  /* nested calls of `match' */\n  int level;",
        ),
        edit(
            "lstrlib.c",
            "static int check_capture (MatchState *ms, int l) {",
            "#define spend(ms, units) \\\n\
             \t{ if ((*(ms)->credit -= (int)(units)) <= 0) lua_tick((ms)->L); }\n\n\
             static int check_capture (MatchState *ms, int l) {",
        ),
        edits(3, "lstrlib.c", "  ms.L = L;\n", "  ms.L = L; ms.credit = lua_workcredit(L); ms.depth = 0;\n"),
        edit(
            "lstrlib.c",
            "          previous = (s == ms->src_init) ? '\\0' : *(s-1);\n",
            "          spend(ms, 1 + (ep - p) / 4);\n          previous = (s == ms->src_init) ? '\\0' : *(s-1);\n",
        ),
        edit(
            "lstrlib.c",
            "      s++;  /* try with one more repetition */\n",
            "      { spend(ms, 1 + (ep - p) / 8); s++; }  /* try with one more repetition */\n",
        ),
        edit(
            "lstrlib.c",
            "  if (init < 0) init = 0;\n  else if ((size_t)(init) > l1)",
            "  lua_workdone(L, 1 + l1 / 64 + l2 / 16);\n  if (init < 0) init = 0;\n  else if ((size_t)(init) > l1)",
        ),
        edit(
            "lstrlib.c",
            "    while (++s < ms->src_end) {\n",
            "    while (++s < ms->src_end) {\n      spend(ms, 1);\n",
        ),
        edit(
            "lstrlib.c",
            "singlematch(uchar(*(s+i)), p, ep))\n    i++;\n",
            "singlematch(uchar(*(s+i)), p, ep)) {\n    spend(ms, 1 + (ep - p) / 8);\n    i++;\n  }\n",
        ),
        edit(
            "lstrlib.c",
            "  len = ms->capture[l].len;\n",
            "  len = ms->capture[l].len;\n  spend(ms, len > 262144 ? 4096 : len / 64);\n",
        ),
        edit(
            "lstrlib.c",
            "      const char *ep = classend(ms, p);  /* points to what is next */\n",
            "      const char *ep = classend(ms, p);  /* points to what is next */\n      spend(ms, 1 + (ep - p) / 8);\n",
        ),
        edit(
            "lstrlib.c",
            "static const char *lmemfind (const char *s1, size_t l1,",
            "static const char *lmemfind (lua_State *L, const char *s1, size_t l1,",
        ),
        edit("lstrlib.c", "lmemfind(s+init, l1-init, p, l2)", "lmemfind(L, s+init, l1-init, p, l2)"),
        edit(
            "lstrlib.c",
            "      init++;   /* 1st char is already checked */\n",
            "      init++;   /* 1st char is already checked */\n      lua_work(L, l2 > 262144 ? 4096 : 1 + (int)(l2 / 64));\n",
        ),
    ],
};

/// Each optional item, repetition and capture of a pattern nests a call on the C stack.
const PATTERN_DEPTH: Patch = Patch {
    name: "pattern depth",
    edits: &[edit(
        "lstrlib.c",
        "static const char *match (MatchState *ms, const char *s, const char *p) {\n  init:",
        "static const char *match_nested (MatchState *ms, const char *s, const char *p);\n\n\
             #define MAX_MATCH_DEPTH 2000\n\n\
             static const char *match (MatchState *ms, const char *s, const char *p) {\n\
             \x20 const char *res;\n\
             \x20 if (++ms->depth > MAX_MATCH_DEPTH)\n\
             \x20   luaL_error(ms->L, \"pattern too complex\");\n\
             \x20 spend(ms, 1);\n\
             \x20 res = match_nested(ms, s, p);\n\
             \x20 ms->depth--;\n\
             \x20 return res;\n\
             }\n\n\n\
             static const char *match_nested (MatchState *ms, const char *s, const char *p) {\n  init:",
    )],
};

/// Shifting, sorting and walking tables.
const LONG_TABLE_LOOPS: Patch = Patch {
    name: "long table loops",
    edits: &[
        edit(
            "ltablib.c",
            "      for (i = e; i > pos; i--) {  /* move up elements */\n",
            "      for (i = e; i > pos; i--) {  /* move up elements */\n        lua_work(L, 2);\n",
        ),
        edit("ltablib.c", "  for ( ;pos<e; pos++) {\n", "  for ( ;pos<e; pos++) {\n    lua_work(L, 2);\n"),
        edit(
            "ltablib.c",
            "  lua_rawgeti(L, 1, i);\n  if (!lua_isstring(L, -1))\n",
            "  lua_work(L, 2);\n  lua_rawgeti(L, 1, i);\n  if (!lua_isstring(L, -1))\n",
        ),
        edit(
            "ltablib.c",
            "static int sort_comp (lua_State *L, int a, int b) {\n",
            "static int sort_comp (lua_State *L, int a, int b) {\n  lua_work(L, 4);\n",
        ),
        edit(
            "ltablib.c",
            "    lua_pushvalue(L, 2);  /* function */\n    lua_pushinteger(L, i);",
            "    lua_work(L, 2);\n    lua_pushvalue(L, 2);  /* function */\n    lua_pushinteger(L, i);",
        ),
        edit(
            "ltablib.c",
            "    lua_pushvalue(L, 2);  /* function */\n    lua_pushvalue(L, -3);",
            "    lua_work(L, 2);\n    lua_pushvalue(L, 2);  /* function */\n    lua_pushvalue(L, -3);",
        ),
        edit(
            "ltablib.c",
            "    lua_pop(L, 1);  /* remove value */\n",
            "    lua_work(L, 1);\n    lua_pop(L, 1);  /* remove value */\n",
        ),
        edit(
            "lbaselib.c",
            "  lua_rawgeti(L, 1, i);  /* push arg[i] (avoiding overflow problems) */\n",
            "  lua_workdone(L, (size_t)(e - i));\n  lua_rawgeti(L, 1, i);  /* push arg[i] (avoiding overflow problems) */\n",
        ),
        // A table of which all was removed is walked to its end by every `next`.
        edit(
            "ltable.c",
            "  int i = findindex(L, t, key);  /* find original element */\n",
            "  int i = findindex(L, t, key);  /* find original element */\n  int start = i;\n",
        ),
        edit(
            "ltable.c",
            "      setnvalue(key, cast_num(i+1));\n",
            "      luai_charge(L, (i - start) / 4);\n      setnvalue(key, cast_num(i+1));\n",
        ),
        edit(
            "ltable.c",
            "      setobj2s(L, key, key2tval(gnode(t, i)));\n",
            "      luai_charge(L, (i + t->sizearray - start) / 4);\n      setobj2s(L, key, key2tval(gnode(t, i)));\n",
        ),
        edit(
            "ltable.c",
            "  return 0;  /* no more elements */\n",
            "  luai_charge(L, (i + t->sizearray - start) / 4);\n  return 0;  /* no more elements */\n",
        ),
        edit(
            "ltable.c",
            "  int nasize, na;\n",
            "  int nasize, na;\n  luai_charge(L, (t->sizearray + sizenode(t)) / 2);\n",
        ),
    ],
};

/// `...` can stand for as many values as memory holds, and one instruction copies them.
const LONG_ARGUMENT_LISTS: Patch = Patch {
    name: "long argument lists",
    edits: &[
        edit(
            "lvm.c",
            "          b = n;\n          L->top = ra + n;\n        }\n",
            "          b = n;\n          L->top = ra + n;\n          luai_charge(L, n / 2);\n        }\n",
        ),
        edit(
            "ldo.c",
            "    int nvar = actual - nfixargs;  /* number of extra arguments */\n",
            "    int nvar = actual - nfixargs;  /* number of extra arguments */\n    luai_charge(L, actual / 2);\n",
        ),
    ],
};

/// A script must not switch the collector off or slow it down, and a full collection is done step by step.
const LONG_COLLECTION: Patch = Patch {
    name: "long collection",
    edits: &[edit(
        "lbaselib.c",
        "  int res = lua_gc(L, optsnum[o], ex);\n",
        "  int res = 0;\n\
         \x20 switch (optsnum[o]) {\n\
         \x20   case LUA_GCCOLLECT: {\n\
         \x20     int cycles = 0;  /* the one under way, then a whole one */\n\
         \x20     while (cycles < 2) {\n\
         \x20       if (lua_gc(L, LUA_GCSTEP, 16)) cycles++;\n\
         \x20       lua_work(L, 1024);\n\
         \x20     }\n\
         \x20     break;\n\
         \x20   }\n\
         \x20   case LUA_GCSTEP: {\n\
         \x20     do {\n\
         \x20       res = lua_gc(L, LUA_GCSTEP, ex < 16 ? (ex < 0 ? 0 : ex) : 16);\n\
         \x20       lua_work(L, 1024);\n\
         \x20       ex -= 16;\n\
         \x20     } while (!res && ex > 0);\n\
         \x20     break;\n\
         \x20   }\n\
         \x20   case LUA_GCCOUNT: res = lua_gc(L, LUA_GCCOUNT, 0); break;\n\
         \x20   case LUA_GCSETPAUSE: res = 200; break;\n\
         \x20   case LUA_GCSETSTEPMUL: res = 200; break;\n\
         \x20   default: break;\n\
         \x20 }\n",
    )],
};

/// Compiling a long script.
const LONG_PARSING: Patch = Patch {
    name: "long parsing",
    edits: &[edit(
        "llex.c",
        "void luaX_next (LexState *ls) {\n",
        "void luaX_next (LexState *ls) {\n  lua_work(ls->L, 4);\n",
    )],
};

/// Tables that scripts can reach but must not change: the globals, the libraries, the API.
const READ_ONLY_TABLES: Patch = Patch {
    name: "read-only tables",
    edits: &[
        edit(
            "lobject.h",
            "  lu_byte lsizenode;  /* log2",
            "  lu_byte readonly;  /* no setter may change it */\n  lu_byte lsizenode;  /* log2",
        ),
        edit(
            "ltable.c",
            "  t->flags = cast_byte(~0);\n",
            "  t->flags = cast_byte(~0);\n  t->readonly = 0;\n",
        ),
        edit(
            "lua.h",
            "LUA_API int lua_gethookcount (lua_State *L);",
            "LUA_API int lua_gethookcount (lua_State *L);\n\
             LUA_API void lua_setreadonly (lua_State *L, int idx, int readonly);\n\
             LUA_API int lua_isreadonly (lua_State *L, int idx);\n",
        ),
        edit(
            "lapi.c",
            "LUA_API int lua_error (lua_State *L) {",
            "LUA_API void lua_setreadonly (lua_State *L, int idx, int readonly) {\n\
             \x20 hvalue(index2adr(L, idx))->readonly = cast_byte(readonly != 0);\n}\n\n\
             LUA_API int lua_isreadonly (lua_State *L, int idx) {\n\
             \x20 return hvalue(index2adr(L, idx))->readonly;\n}\n\n\
             LUA_API int lua_error (lua_State *L) {",
        ),
        edit(
            "lvm.c",
            "      TValue *oldval = luaH_set(L, h, key); /* do a primitive set */\n",
            "      TValue *oldval;\n\
             \x20     if (h->readonly) {\n\
             \x20       if (ttisnil(luaH_get(h, key)) && (tm = fasttm(L, h->metatable, TM_NEWINDEX)) != NULL)\n\
             \x20         goto metamethod;\n\
             \x20       luaG_runerror(L, \"Attempt to modify a readonly table\");\n\
             \x20     }\n\
             \x20     oldval = luaH_set(L, h, key); /* do a primitive set */\n",
        ),
        edit(
            "lvm.c",
            "    else if (ttisnil(tm = luaT_gettmbyobj(L, t, TM_NEWINDEX)))\n      luaG_typeerror(L, t, \"index\");\n",
            "    else if (ttisnil(tm = luaT_gettmbyobj(L, t, TM_NEWINDEX)))\n      luaG_typeerror(L, t, \"index\");\n    metamethod:\n",
        ),
        edit(
            "lapi.c",
            "  setobj2t(L, luaH_set(L, hvalue(t), L->top-2), L->top-1);\n",
            "  if (hvalue(t)->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n\
             \x20 setobj2t(L, luaH_set(L, hvalue(t), L->top-2), L->top-1);\n",
        ),
        edit(
            "lapi.c",
            "  setobj2t(L, luaH_setnum(L, hvalue(o), n), L->top-1);\n",
            "  if (hvalue(o)->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n\
             \x20 setobj2t(L, luaH_setnum(L, hvalue(o), n), L->top-1);\n",
        ),
        edit(
            "lapi.c",
            "      hvalue(obj)->metatable = mt;\n",
            "      if (hvalue(obj)->readonly) luaG_runerror(L, \"Attempt to modify a readonly table\");\n\
             \x20     hvalue(obj)->metatable = mt;\n",
        ),
    ],
};

/// Bytecode is not checked and can do anything; what looks like it is parsed as text, and fails.
const NO_BYTECODE: Patch = Patch {
    name: "no bytecode",
    edits: &[edit(
        "ldo.c",
        "  int c = luaZ_lookahead(p->z);\n  luaC_checkGC(L);\n  tf = ((c == LUA_SIGNATURE[0]) ? luaU_undump : luaY_parser)(L, p->z,\n                                                             &p->buff, p->name);\n",
        "  luaZ_lookahead(p->z);\n  luaC_checkGC(L);\n  tf = luaY_parser(L, p->z, &p->buff, p->name);\n",
    )],
};

/// CVE-2025-49844: the parser kept the chunk's name where the collector does not look.
const CHUNK_NAME_ANCHORED: Patch = Patch {
    name: "chunk name anchored",
    edits: &[
        edit(
            "lparser.c",
            "  lexstate.buff = buff;\n  luaX_setinput(L, &lexstate, z, luaS_new(L, name));\n",
            "  TString *source = luaS_new(L, name);\n\
             \x20 setsvalue2s(L, L->top, source);\n\
             \x20 incr_top(L);\n\
             \x20 lexstate.buff = buff;\n\
             \x20 luaX_setinput(L, &lexstate, z, source);\n",
        ),
        edit(
            "lparser.c",
            "  lua_assert(lexstate.fs == NULL);\n  return funcstate.f;\n",
            "  lua_assert(lexstate.fs == NULL);\n  L->top--;\n  return funcstate.f;\n",
        ),
    ],
};

/// The buffer in which the scanner collects a token was known to a frame on the C stack only, so a script abandoned
/// while it compiled leaked it. It belongs to the state now.
const SCANNER_BUFFER_OWNED: Patch = Patch {
    name: "scanner buffer owned",
    edits: &[
        edit(
            "lstate.h",
            "typedef struct global_State {\n",
            "typedef struct ScannerBuffer {\n  Mbuffer buff;\n  struct ScannerBuffer *outer;\n} ScannerBuffer;\n\n\
             typedef struct global_State {\n  ScannerBuffer *scanners;  /* of the parsers at work, innermost first */\n",
        ),
        edit("lstate.c", "  g->panic = NULL;\n", "  g->panic = NULL;\n  g->scanners = NULL;\n"),
        edit(
            "lstate.c",
            "  luaZ_freebuffer(L, &g->buff);\n",
            "  luaZ_freebuffer(L, &g->buff);\n  while (g->scanners != NULL) luaD_endscanner(L);\n",
        ),
        edit(
            "ldo.h",
            "LUAI_FUNC int luaD_protectedparser (",
            "LUAI_FUNC void luaD_endscanner (lua_State *L);\nLUAI_FUNC int luaD_protectedparser (",
        ),
        edit(
            "ldo.c",
            "struct SParser {  /* data to `f_parser' */\n  ZIO *z;\n  Mbuffer buff;  /* buffer to be used by the scanner */\n",
            "struct SParser {  /* data to `f_parser' */\n  ZIO *z;\n",
        ),
        edit(
            "ldo.c",
            "  luaZ_lookahead(p->z);\n  luaC_checkGC(L);\n  tf = luaY_parser(L, p->z, &p->buff, p->name);\n",
            "  ScannerBuffer *scanner = luaM_new(L, ScannerBuffer);\n\
             \x20 luaZ_initbuffer(L, &scanner->buff);\n\
             \x20 scanner->outer = G(L)->scanners;\n\
             \x20 G(L)->scanners = scanner;\n\
             \x20 luaZ_lookahead(p->z);\n\
             \x20 luaC_checkGC(L);\n\
             \x20 tf = luaY_parser(L, p->z, &scanner->buff, p->name);\n",
        ),
        edit(
            "ldo.c",
            "int luaD_protectedparser (lua_State *L, ZIO *z, const char *name) {\n  struct SParser p;\n  int status;\n  p.z = z; p.name = name;\n  luaZ_initbuffer(L, &p.buff);\n",
            "void luaD_endscanner (lua_State *L) {\n\
             \x20 ScannerBuffer *scanner = G(L)->scanners;\n\
             \x20 G(L)->scanners = scanner->outer;\n\
             \x20 luaZ_freebuffer(L, &scanner->buff);\n\
             \x20 luaM_free(L, scanner);\n}\n\n\n\
             int luaD_protectedparser (lua_State *L, ZIO *z, const char *name) {\n\
             \x20 struct SParser p;\n  int status;\n\
             \x20 ScannerBuffer *outer = G(L)->scanners;\n\
             \x20 p.z = z; p.name = name;\n",
        ),
        edit(
            "ldo.c",
            "  luaZ_freebuffer(L, &p.buff);\n",
            "  while (G(L)->scanners != outer) luaD_endscanner(L);\n",
        ),
    ],
};

/// CVE-2025-46817: the number of results overflowed a signed integer.
const UNPACK_COUNT_UNSIGNED: Patch = Patch {
    name: "unpack count unsigned",
    edits: &[
        edit(
            "lbaselib.c",
            "  int i, e, n;\n  luaL_checktype(L, 1, LUA_TTABLE);\n",
            "  int i, e;\n  unsigned int n;\n  luaL_checktype(L, 1, LUA_TTABLE);\n",
        ),
        edit(
            "lbaselib.c",
            "  n = e - i + 1;  /* number of elements */\n  if (n <= 0 || !lua_checkstack(L, n))  /* n <= 0 means arith. overflow */\n",
            "  n = (unsigned int)e - (unsigned int)i;  /* number of elements less one */\n\
             \x20 if (n >= INT_MAX || !lua_checkstack(L, (int)++n))\n",
        ),
        edit("lbaselib.c", "#include <ctype.h>\n", "#include <ctype.h>\n#include <limits.h>\n"),
    ],
};

/// CVE-2025-46819: the level of a long bracket overflowed a signed integer.
const LONG_BRACKET_LEVEL: Patch = Patch {
    name: "long bracket level",
    edits: &[edit(
        "llex.c",
        "    save_and_next(ls);\n    count++;\n",
        "    save_and_next(ls);\n    if (++count > 100000) luaX_lexerror(ls, \"long bracket level too high\", TK_STRING);\n",
    )],
};

/// A finalizer runs when the collector wants, outside of any script. Our own libraries have one, on a block of
/// theirs; what scripts can make (`newproxy`) is empty, and gets none.
const NO_FINALIZERS: Patch = Patch {
    name: "no finalizers",
    edits: &[edit(
        "lgc.c",
        "    else if (fasttm(L, gco2u(curr)->metatable, TM_GC) == NULL) {\n",
        "    else if (gco2u(curr)->len == 0 || fasttm(L, gco2u(curr)->metatable, TM_GC) == NULL) {\n",
    )],
};

/// Level 0 is the environment of the thread, which outlives the script.
const NO_THREAD_ENVIRONMENT: Patch = Patch {
    name: "no thread environment",
    edits: &[edit(
        "lbaselib.c",
        "    /* change environment of current thread */\n",
        "    luaL_argerror(L, 1, \"level must be positive\");\n",
    )],
};
