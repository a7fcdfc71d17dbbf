//! The manifest: one line a file, `file NAME seq N type b|h|i`.
//!
//! Invariant: at most one base; incr files in rising sequence.

use crate::protocol::request::split_arguments;

/// What a file of the AOF is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Base,
    /// Replaced, and to be deleted.
    History,
    Incr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    pub name: String,
    pub sequence: u64,
}

/// Why a manifest cannot be used; the texts are those of Valkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("Found an empty AOF manifest")]
    Empty,
    #[error("The AOF manifest file contains too long line")]
    LongLine,
    #[error("Invalid AOF manifest file format")]
    Format,
    #[error("AOF file path is invalid")]
    Path,
    #[error("Unknown AOF file type")]
    UnknownKind,
    #[error("Found duplicate base file information")]
    TwoBases,
    #[error("Found a non-monotonic sequence number")]
    Order,
}

/// Longest line, its end included.
const LONGEST_LINE: usize = 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    base: Option<NamedFile>,
    history: Vec<NamedFile>,
    incrs: Vec<NamedFile>,
    last_base: u64,
    last_incr: u64,
    last_history_incr: u64,
}

impl Manifest {
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut manifest = Manifest::default();
        if bytes.is_empty() {
            return Err(ManifestError::Empty);
        }
        let mut any = false;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b"#") {
                continue;
            }
            if line.len() >= LONGEST_LINE {
                return Err(ManifestError::LongLine);
            }
            let line = line.trim_ascii();
            if line.is_empty() {
                return Err(ManifestError::Format);
            }
            any = true;
            manifest.parse_line(line)?;
        }
        if any { Ok(manifest) } else { Err(ManifestError::Empty) }
    }

    fn parse_line(&mut self, line: &[u8]) -> Result<(), ManifestError> {
        let words = split_arguments(line).ok_or(ManifestError::Format)?;
        if words.len() < 6 || words.len() % 2 != 0 {
            return Err(ManifestError::Format);
        }
        let (mut name, mut sequence, mut kind) = (None, None, None);
        for pair in words.chunks_exact(2) {
            let text = String::from_utf8_lossy(&pair[1]).into_owned();
            match pair[0].to_ascii_lowercase().as_slice() {
                b"file" if text.contains('/') => return Err(ManifestError::Path),
                b"file" => name = Some(text),
                b"seq" => sequence = text.parse::<u64>().ok(),
                b"type" => kind = pair[1].first().copied(),
                // Keys of newer versions.
                _ => {}
            }
        }
        let (Some(name), Some(sequence @ 1..), Some(kind)) = (name, sequence, kind) else {
            return Err(ManifestError::Format);
        };
        let file = NamedFile { name, sequence };
        match kind {
            b'b' if self.base.is_some() => return Err(ManifestError::TwoBases),
            b'b' => {
                self.last_base = sequence;
                self.base = Some(file);
            }
            b'h' => {
                if file.name.contains(".incr.") {
                    // Its name is taken until it is deleted.
                    self.last_history_incr = self.last_history_incr.max(sequence);
                }
                self.history.push(file);
            }
            b'i' if sequence <= self.last_incr => return Err(ManifestError::Order),
            b'i' => {
                self.last_incr = sequence;
                self.incrs.push(file);
            }
            _ => return Err(ManifestError::UnknownKind),
        }
        Ok(())
    }

    /// The manifest as it stands in its file.
    pub fn format(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let kinds = [('b', self.base.as_slice()), ('h', &self.history), ('i', &self.incrs)];
        for (kind, files) in kinds {
            for file in files {
                text.extend_from_slice(b"file ");
                append_name(&mut text, &file.name);
                text.extend_from_slice(format!(" seq {} type {kind}\n", file.sequence).as_bytes());
            }
        }
        text
    }

    pub fn base(&self) -> Option<&NamedFile> {
        self.base.as_ref()
    }

    pub fn incrs(&self) -> &[NamedFile] {
        &self.incrs
    }

    pub fn history(&self) -> &[NamedFile] {
        &self.history
    }

    pub(super) fn next_incr_sequence(&self) -> u64 {
        self.last_incr.max(self.last_history_incr) + 1
    }

    pub(super) fn next_base_sequence(&self) -> u64 {
        self.last_base + 1
    }

    pub(super) fn add_incr(&mut self, name: String, sequence: u64) {
        self.last_incr = sequence;
        self.incrs.push(NamedFile { name, sequence });
    }

    pub(super) fn set_base(&mut self, name: String, sequence: u64) {
        self.last_base = sequence;
        self.base = Some(NamedFile { name, sequence });
    }

    /// A new base holds all that the old one and the incr files before `first_incr` held. The last to become history is
    /// named first.
    pub(super) fn replace_base(&mut self, name: String, sequence: u64, first_incr: u64) {
        let (old, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.incrs).into_iter().partition(|incr| incr.sequence < first_incr);
        self.incrs = kept;
        let replaced = old.into_iter().chain(self.base.take());
        self.history.splice(0..0, replaced);
        self.set_base(name, sequence);
    }

    pub(super) fn forget_history(&mut self) {
        self.history.clear();
    }
}

/// Quotes a name that has white space, quotes or control bytes.
fn append_name(text: &mut Vec<u8>, name: &str) {
    let plain =
        name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\'' && byte != b'\\');
    if plain && !name.is_empty() {
        return text.extend_from_slice(name.as_bytes());
    }
    text.push(b'"');
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            b' '..=b'~' => text.push(byte),
            _ => text.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let text =
            b"file a.1.base.rdb seq 1 type b\nfile \"a b.2.incr.aof\" seq 2 type i\nfile x seq 3 type i\n";
        let manifest = Manifest::parse(text).expect("valid");
        assert_eq!(manifest.format(), text);
        assert_eq!(manifest.incrs()[0].name, "a b.2.incr.aof");
        let error = |text: &str| Manifest::parse(text.as_bytes()).expect_err("refused");
        assert_eq!(error(""), ManifestError::Empty);
        assert_eq!(error("# only\n"), ManifestError::Empty);
        assert_eq!(error("file a seq 1 type b\n\n"), ManifestError::Format);
        assert_eq!(error("file a seq x type b\n"), ManifestError::Format);
        assert_eq!(error("file a seq 1 type q\n"), ManifestError::UnknownKind);
        assert_eq!(error("file a seq 1 type b\nfile b seq 2 type b\n"), ManifestError::TwoBases);
        assert_eq!(error("file a seq 2 type i\nfile b seq 1 type i\n"), ManifestError::Order);
        assert_eq!(error("file a/b seq 2 type i\n"), ManifestError::Path);
        assert_eq!(error(&format!("file {} seq 2 type i\n", "x".repeat(1024))), ManifestError::LongLine);
    }
}
