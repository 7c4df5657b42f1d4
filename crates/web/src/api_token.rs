//! Tokens: who may use the API for what.
//!
//! A secret has 256 random bits, so nobody can guess it, and a plain SHA-256 is enough to store: slow
//! password hashes are for secrets that people choose. The file contains only hashes, and must be readable
//! only by its owner. It is reread when it changes.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::{constant_time, digest, rand};
use serde::{Deserialize, Serialize};

use crate::consent::{Controller, Timestamp};

/// The maximum size of the file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// The prefix of a token, so that scanners for leaked secrets find it.
const PREFIX: &str = "pxw_";

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Look up what people said.
    ConsentRead,
    /// Record what people said.
    ConsentWrite,
    /// Erase people. Only for tokens of all controllers, because they share the person's key.
    ConsentErase,
    /// Export everything recorded about a person.
    ConsentExport,
    /// Ask why mail is handled as it is.
    PolicyRead,
    /// See how many people said what.
    StatisticsRead,
    /// Read the metrics.
    Metrics,
    /// Search the audit records.
    EvidenceRead,
    /// See the state of next hops, certificates and limits. Only for tokens of all controllers, because they
    /// share them.
    DeliveryRead,
    /// Read the audit trail. Only for tokens of all controllers.
    AuditRead,
    /// Append to the audit trail. Only for tokens of all controllers.
    AuditWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 11] = [
        Scope::ConsentRead,
        Scope::ConsentWrite,
        Scope::ConsentErase,
        Scope::ConsentExport,
        Scope::PolicyRead,
        Scope::StatisticsRead,
        Scope::Metrics,
        Scope::EvidenceRead,
        Scope::DeliveryRead,
        Scope::AuditRead,
        Scope::AuditWrite,
    ];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::ConsentRead => "consent:read",
            Scope::ConsentWrite => "consent:write",
            Scope::ConsentErase => "consent:erase",
            Scope::ConsentExport => "consent:export",
            Scope::PolicyRead => "policy:read",
            Scope::StatisticsRead => "statistics:read",
            Scope::Metrics => "metrics",
            Scope::EvidenceRead => "evidence:read",
            Scope::DeliveryRead => "delivery:read",
            Scope::AuditRead => "audit:read",
            Scope::AuditWrite => "audit:write",
        }
    }

    /// Returns whether it is useless for a token of one controller, because what it gives access to belongs
    /// to all of them.
    pub const fn is_of_all(self) -> bool {
        match self {
            Scope::ConsentErase
            | Scope::Metrics
            | Scope::DeliveryRead
            | Scope::AuditRead
            | Scope::AuditWrite => true,
            Scope::ConsentRead
            | Scope::ConsentWrite
            | Scope::ConsentExport
            | Scope::PolicyRead
            | Scope::StatisticsRead
            | Scope::EvidenceRead => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(name: &str) -> Result<Scope, String> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).collect();
            format!("unknown scope {name:?}: use one of {}", names.join(", "))
        })
    }
}

/// A token as stored in the file, one JSON object per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The id by which it is found and named; not a secret.
    pub id: String,
    /// The name given by people.
    pub name: String,
    /// The SHA-256 of the whole token, in hexadecimal.
    pub sha256: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Its controller; `None` for all.
    pub controller: Option<String>,
    /// When it was created.
    pub created: String,
    /// When it expires.
    pub expires: String,
    /// When it was revoked.
    pub revoked: Option<String>,
}

/// What the bearer of a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The token's id.
    pub id: String,
    /// The token's name.
    pub name: String,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// Its controller; `None` for all.
    pub controller: Option<Controller>,
    /// When it expires.
    pub expires: Timestamp,
}

impl Grant {
    /// Returns whether it covers this controller; `None` is for what belongs to no controller.
    pub fn covers(&self, controller: Option<&Controller>) -> bool {
        self.controller.as_ref().is_none_or(|bound| controller == Some(bound))
    }
}

/// A new token: the secret is shown once and stored nowhere.
#[derive(Debug)]
pub struct Made {
    /// The token itself.
    pub secret: String,
    /// What is stored.
    pub token: Token,
}

impl Token {
    /// Creates a token.
    ///
    /// # Errors
    ///
    /// When no scope is given, when erasing is requested for a single controller, when it would expire in the
    /// past, or when no randomness is available.
    pub fn make(
        name: &str,
        scopes: &[Scope],
        controller: Option<&Controller>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Made, String> {
        if name.is_empty()
            || name.len() > 64
            || name.contains(|character: char| character.is_control() || character == '@')
        {
            return Err("invalid name: use 1 to 64 bytes without control characters and at signs".to_owned());
        }
        if scopes.is_empty() {
            return Err("a token needs at least one scope".to_owned());
        }
        if controller.is_some() && scopes.contains(&Scope::ConsentErase) {
            return Err(
                "consent:erase requires a token for all controllers: erasing a person overwrites the \
                        person's key, which all controllers share"
                    .to_owned(),
            );
        }
        if expires <= now {
            return Err("the token would already have expired".to_owned());
        }
        let mut bytes = [0; 36];
        rand::fill(&mut bytes).map_err(|_| "no randomness is available")?;
        let (id, secret) = bytes.split_at(4);
        let id = hex::encode(id);
        let secret = format!("{PREFIX}{id}_{}", hex::encode(secret));
        let token = Token {
            id,
            name: name.to_owned(),
            sha256: hashed(&secret),
            scopes: scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            controller: controller.map(|controller| controller.as_str().to_owned()),
            created: now.to_string(),
            expires: expires.to_string(),
            revoked: None,
        };
        Ok(Made { secret, token })
    }

    /// Returns what it allows now; `None` if it has expired or was revoked.
    fn grant(&self, now: Timestamp) -> Option<Grant> {
        let expires = Timestamp::parse(&self.expires).ok()?;
        let scopes: Result<Vec<Scope>, String> = self.scopes.iter().map(|scope| scope.parse()).collect();
        let controller = self.controller.as_deref().map(str::parse::<Controller>).transpose().ok()?;
        let is_in_force = self.revoked.is_none() && now < expires;
        is_in_force.then_some(Grant {
            id: self.id.clone(),
            name: self.name.clone(),
            scopes: scopes.ok()?,
            controller,
            expires,
        })
    }
}

fn hashed(secret: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

/// Reads the token file; a missing file has no tokens.
///
/// # Errors
///
/// When it cannot be read, when others than its owner can read or write it, or when a line is invalid; the
/// error names the line, not its contents.
pub fn load(path: &Path) -> Result<Vec<Token>, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| named(&error))?,
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(named(&"others can read or write it; run chmod 600 on it"));
    }
    if metadata.len() > MAX_FILE {
        return Err(named(&format!("it is larger than {MAX_FILE} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let token: Token =
            serde_json::from_str(line).map_err(|_| named(&format!("line {} is not a token", index + 1)))?;
        if tokens.iter().any(|other| other.id == token.id) {
            return Err(named(&format!("line {}: duplicate id", index + 1)));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Changes the token file, one process at a time. It is replaced as a whole, and belongs to the owner of its
/// directory.
///
/// # Errors
///
/// When it cannot be read or written, or `change` fails.
pub fn update<T>(
    path: &Path,
    change: impl FnOnce(&mut Vec<Token>) -> Result<T, String>,
) -> Result<T, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| named(&error))?;
    let lock = File::open(folder).map_err(|error| named(&error))?;
    lock.lock().map_err(|error| named(&error))?;
    let mut tokens = load(path)?;
    let done = change(&mut tokens)?;
    let mut text = String::new();
    for token in &tokens {
        text.push_str(&serde_json::to_string(token).map_err(|error| named(&error))?);
        text.push('\n');
    }
    replace(path, folder, text.as_bytes()).map_err(|error| named(&error))?;
    Ok(done)
}

fn replace(path: &Path, folder: &Path, content: &[u8]) -> std::io::Result<()> {
    crate::private_file::check_owner(folder)?;
    pixelward_files::replace(path, content).map(drop)
}

/// Returns the path of the file with the days of last use.
pub fn used_path(tokens: &Path) -> PathBuf {
    let mut name = tokens.file_name().unwrap_or_default().to_owned();
    name.push(".used");
    tokens.with_file_name(name)
}

/// Reads the day on which each token was last used, by id.
pub fn last_used(tokens: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(used_path(tokens)).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(id, day)| (id.to_owned(), day.to_owned())).collect()
}

/// The file's last change (including its permissions) in seconds and nanoseconds, its length and its inode.
/// `None` if there is no file.
type Mark = Option<(i64, i64, u64, u64)>;

fn mark(path: &Path) -> Mark {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ctime(), metadata.ctime_nsec(), metadata.len(), metadata.ino()))
}

/// The valid tokens, as a server uses them.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    read: RwLock<Read>,
    used: Mutex<HashMap<String, String>>,
}

#[derive(Debug)]
struct Read {
    mark: Mark,
    /// `None` if the file cannot be used: then no token is valid.
    tokens: Option<Arc<HashMap<String, Token>>>,
}

/// The result of checking a token.
#[derive(Debug)]
pub enum Verdict {
    /// It is valid.
    Granted(Grant),
    /// It is unknown, expired or revoked.
    Refused,
    /// The token file cannot be used.
    Unreadable,
}

impl Tokens {
    /// Loads the tokens of this file.
    pub fn of(path: &Path) -> Tokens {
        let used = Mutex::new(last_used(path));
        Tokens { path: path.to_owned(), read: RwLock::new(Read::of(path)), used }
    }

    /// Returns what a token allows now.
    pub fn verify(&self, secret: &str, now: Timestamp) -> Verdict {
        let Some(tokens) = self.current() else { return Verdict::Unreadable };
        let id = secret.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
        let known = id.and_then(|id| tokens.get(id));
        // An unknown id is compared all the same, so that timing reveals no ids.
        let kept = known.map_or("", |known| known.sha256.as_str());
        let shown = hashed(secret);
        let is_right = constant_time::verify_slices_are_equal(kept.as_bytes(), shown.as_bytes()).is_ok();
        let granted = known.filter(|_| is_right).and_then(|known| known.grant(now));
        granted.map_or(Verdict::Refused, Verdict::Granted)
    }

    fn current(&self) -> Option<Arc<HashMap<String, Token>>> {
        let newest = mark(&self.path);
        {
            let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
            if read.mark == newest {
                return read.tokens.clone();
            }
        }
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        if read.mark != newest {
            *read = Read::of(&self.path);
        }
        read.tokens.clone()
    }

    /// Records that a token was used on a day, such as 2026-11-24. Writes to disk once a day per token.
    pub fn note_use(&self, id: &str, day: &str) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(id).is_some_and(|used| used == day) {
            return;
        }
        used.insert(id.to_owned(), day.to_owned());
        let text: String = used.iter().map(|(id, day)| format!("{id} {day}\n")).collect();
        let path = used_path(&self.path);
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Err(error) = replace(&path, folder, text.as_bytes()) {
            tracing::warn!(%error, "the use of a token could not be recorded");
        }
    }

    /// Returns whether this is the first use of the token on this day.
    pub fn is_first_use(&self, id: &str, day: &str) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.get(id).is_none_or(|used| used != day)
    }
}

impl Read {
    fn of(path: &Path) -> Read {
        let mark = mark(path);
        match load(path) {
            Ok(tokens) => {
                let by_id = tokens.into_iter().map(|token| (token.id.clone(), token)).collect();
                Read { mark, tokens: Some(Arc::new(by_id)) }
            }
            Err(error) => {
                tracing::error!(%error, "the token file cannot be read; no token is valid until it can");
                Read { mark, tokens: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("pixelward-token-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn made(controller: Option<&str>) -> Made {
        let controller = controller.map(|controller| controller.parse().unwrap());
        Token::make("console", &[Scope::ConsentRead], controller.as_ref(), Timestamp(0), Timestamp(1000))
            .unwrap()
    }

    #[test]
    fn a_token_counts_until_it_ends_or_is_revoked() {
        let folder = Folder::new("verify");
        let path = folder.0.join("api.tokens");
        let tokens = Tokens::of(&path);
        let token = made(Some("shop"));
        assert!(matches!(tokens.verify(&token.secret, Timestamp(5)), Verdict::Refused));
        update(&path, |all| {
            all.push(token.token.clone());
            Ok(())
        })
        .unwrap();
        let Verdict::Granted(grant) = tokens.verify(&token.secret, Timestamp(999)) else {
            panic!("it does not count");
        };
        assert_eq!(grant.scopes, [Scope::ConsentRead]);
        assert!(grant.covers(Some(&"shop".parse().unwrap())));
        assert!(!grant.covers(Some(&"club".parse().unwrap())) && !grant.covers(None));
        assert!(matches!(tokens.verify(&token.secret, Timestamp(1000)), Verdict::Refused));
        let mut altered = token.secret.clone();
        altered.replace_range(13..14, if altered.as_bytes()[13] == b'0' { "1" } else { "0" });
        for other in [altered.as_str(), "", "pxw_", "pxw_00000000_00", &made(None).secret] {
            assert!(matches!(tokens.verify(other, Timestamp(5)), Verdict::Refused), "{other}");
        }
        update(&path, |all| {
            all[0].revoked = Some(Timestamp(6).to_string());
            Ok(())
        })
        .unwrap();
        assert!(matches!(tokens.verify(&token.secret, Timestamp(999)), Verdict::Refused));
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&token.secret));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_damaged_gives_no_tokens() {
        let folder = Folder::new("open");
        let path = folder.0.join("api.tokens");
        let token = made(None);
        update(&path, |all| {
            all.push(token.token.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Tokens::of(&path).verify(&token.secret, Timestamp(5)), Verdict::Unreadable));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Tokens::of(&path).verify(&token.secret, Timestamp(5)), Verdict::Granted(_)));
        let twice = std::fs::read_to_string(&path).unwrap().repeat(2);
        for wrong in ["{}\n", "secret\n", &twice] {
            std::fs::write(&path, wrong).unwrap();
            let error = load(&path).unwrap_err();
            assert!(error.contains("line") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_a_token_may_not_be_is_said() {
        let shop: Controller = "shop".parse().unwrap();
        let new = |name: &str, scopes: &[Scope], controller: Option<&Controller>, expires: i64| {
            Token::make(name, scopes, controller, Timestamp(5), Timestamp(expires)).map(|made| made.secret)
        };
        assert!(new("crm", &[Scope::ConsentErase], None, 9).is_ok());
        assert!(new("crm", &[Scope::ConsentErase], Some(&shop), 9).unwrap_err().contains("share"));
        assert!(new("crm", &[], None, 9).is_err());
        assert!(new("", &[Scope::Metrics], None, 9).is_err());
        assert!(new("ann@home.example", &[Scope::Metrics], None, 9).is_err());
        assert!(new("crm", &[Scope::Metrics], None, 5).is_err());
        assert_ne!(new("crm", &[Scope::Metrics], None, 9), new("crm", &[Scope::Metrics], None, 9));
        assert_eq!(new("crm", &[Scope::Metrics], None, 9).unwrap().len(), 4 + 8 + 1 + 64);
    }

    #[test]
    fn the_day_of_the_last_use_is_kept() {
        let folder = Folder::new("used");
        let path = folder.0.join("api.tokens");
        let tokens = Tokens::of(&path);
        assert!(tokens.is_first_use("aa", "2026-11-24"));
        tokens.note_use("aa", "2026-11-24");
        tokens.note_use("bb", "2026-11-23");
        assert!(!tokens.is_first_use("aa", "2026-11-24") && tokens.is_first_use("aa", "2026-11-25"));
        tokens.note_use("bb", "2026-11-24");
        let kept = last_used(&path);
        assert_eq!((kept["aa"].as_str(), kept["bb"].as_str()), ("2026-11-24", "2026-11-24"));
    }
}
