//! The configured sizes up to which a collection keeps its small form. Must not know the configuration
//! file; the caller hands in the values that are in force at the moment of a write.

/// The limits that decide between the forms of a collection, named after the directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most fields of a hash in its small form.
    pub hash_max_listpack_entries: usize,
    /// Longest field or value, in bytes, of a hash in its small form.
    pub hash_max_listpack_value: usize,
    /// Most members of a sorted set in its small form.
    pub zset_max_listpack_entries: usize,
    /// Longest member, in bytes, of a sorted set in its small form.
    pub zset_max_listpack_value: usize,
    /// Most members of a set kept as a sorted array of integers.
    pub set_max_intset_entries: usize,
    /// Most members of a set in its small form.
    pub set_max_listpack_entries: usize,
    /// Longest member, in bytes, of a set in its small form.
    pub set_max_listpack_value: usize,
    /// The size of one node of a list: a positive number counts elements, -1 to -5 mean 4, 8, 16, 32 and
    /// 64 KB.
    pub list_max_listpack_size: i32,
    /// How many nodes at each end of a list stay uncompressed, as OBJECT output shows it. Nodes are never
    /// compressed here; the number is only kept.
    pub list_compress_depth: u32,
    /// Elements of at least this many bytes get a node of their own in a list; 0 derives the threshold from
    /// `list_max_listpack_size`.
    pub quicklist_packed_threshold: usize,
    /// Longest HyperLogLog, in bytes, that stays sparse.
    pub hll_sparse_max_bytes: usize,
    /// Most bytes of a node of a stream, in the size of a listpack; 0 for as many as fit.
    pub stream_node_max_bytes: usize,
    /// Most entries of a node of a stream, deleted ones included; 0 for any number.
    pub stream_node_max_entries: usize,
}

impl Default for Limits {
    /// The defaults of Valkey 9.1.
    fn default() -> Self {
        Limits {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            quicklist_packed_threshold: 0,
            hll_sparse_max_bytes: 3000,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
        }
    }
}
