//! The accounts that may log in: a file with a login and the hash of a password on each line. The only file
//! that names argon2.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use tokio::sync::Semaphore;

use crate::private_file::is_open_to_others;
use crate::smtp::auth::Credentials;

/// The maximum size of the file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// The costliest accepted hash: KiB of memory, passes, lanes.
const MAX_COST: (u32, u32, u32) = (64 * 1024, 10, 16);
/// How many passwords are checked concurrently, by all listeners: each takes the memory of its hash, 19 MiB
/// by default.
static AT_WORK: Semaphore = Semaphore::const_new(4);
/// How many of them are for clients that are not known for their login: the last slot is reserved for known
/// ones.
static STRANGERS: Semaphore = Semaphore::const_new(3);
/// How long a login waits for its turn.
const TURN: Duration = Duration::from_secs(20);

/// The accounts of a listener.
pub struct Users {
    /// Maps a login to its PHC string.
    hashes: HashMap<String, String>,
    /// A hash to check for unknown logins, so that they take as long as others.
    decoy: String,
}

/// The result of a password check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the login's.
    Right,
    /// It is not, or there is no such login.
    Wrong,
    /// Too many are being checked.
    Busy,
}

impl Users {
    /// Reads a file of lines `login:$argon2id$…`. Empty lines and those that begin with `#` are ignored.
    ///
    /// # Errors
    ///
    /// When it cannot be read, others than its owner can read or write it, or a line is invalid; the error
    /// names the line, not its contents.
    pub fn load(path: &Path) -> Result<Users, String> {
        let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let metadata = std::fs::metadata(path).map_err(|error| named(&error))?;
        if is_open_to_others(path, &metadata) {
            return Err(named(&"others can read or write it; run chmod 600 on it"));
        }
        if metadata.len() > MAX_FILE {
            return Err(named(&format!("it is larger than {MAX_FILE} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        Users::read(&text).map_err(|error| named(&error))
    }

    fn read(text: &str) -> Result<Users, String> {
        let mut hashes = HashMap::new();
        let mut decoy = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| format!("line {}: {what}", index + 1);
            let (login, hash) = line
                .split_once(':')
                .ok_or_else(|| wrong("expected login:hash, as `pixelward passwd` prints it"))?;
            check_login(login).map_err(|error| wrong(&error))?;
            check_hash(hash).map_err(|error| wrong(&error))?;
            decoy.get_or_insert_with(|| hash.to_owned());
            if hashes.insert(login.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong("duplicate login"));
            }
        }
        match decoy {
            Some(decoy) => Ok(Users { hashes, decoy }),
            None => Err("it contains no login; add lines printed by `pixelward passwd`".to_owned()),
        }
    }

    /// Checks a password. An unknown login takes as long as a wrong password. Clients known for the login do
    /// not wait for those that are not.
    pub async fn verify(&self, credentials: Credentials, is_known: bool) -> Verdict {
        let turns = async {
            let stranger = if is_known { None } else { Some(STRANGERS.acquire().await) };
            (stranger, AT_WORK.acquire().await)
        };
        let Ok(turns) = tokio::time::timeout(TURN, turns).await else { return Verdict::Busy };
        let known = self.hashes.get(&credentials.login);
        let exists = known.is_some();
        let hash = known.unwrap_or(&self.decoy).clone();
        let looked = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, whether or not anyone still waits for it.
            let _turns = turns;
            is_of(&credentials.password, &hash)
        });
        let is_right = looked.await.unwrap_or(false) && exists;
        if is_right { Verdict::Right } else { Verdict::Wrong }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.hashes.len())
    }
}

fn is_of(password: &[u8], hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

/// Checks whether a login is valid in the file.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_login(login: &str) -> Result<(), String> {
    let is_odd = |character: char| character.is_control() || character.is_whitespace() || character == ':';
    if login.is_empty() || login.len() > 255 || login.starts_with('#') || login.contains(is_odd) {
        return Err(
            "invalid login: use 1 to 255 bytes without spaces and colons that do not begin with #".to_owned()
        );
    }
    Ok(())
}

fn check_hash(hash: &str) -> Result<(), String> {
    let wrong = || "not an $argon2id$ hash, as printed by `pixelward passwd`".to_owned();
    let read = PasswordHash::new(hash).map_err(|_| wrong())?;
    if read.algorithm.as_str() != "argon2id" || read.hash.is_none() || read.salt.is_none() {
        return Err(wrong());
    }
    let params = Params::try_from(&read).map_err(|_| wrong())?;
    let (memory, passes, lanes) = MAX_COST;
    if params.m_cost() > memory || params.t_cost() > passes || params.p_cost() > lanes {
        return Err(format!(
            "the hash costs more than m={memory}, t={passes}, p={lanes}, which a flood of logins could abuse"
        ));
    }
    Ok(())
}

/// Builds the line of the file for a login.
///
/// # Errors
///
/// When the login is invalid, the password is empty or longer than 1024 bytes, or no salt is available.
pub fn line(login: &str, password: &[u8]) -> Result<String, String> {
    check_login(login)?;
    if password.is_empty() || password.len() > 1024 {
        return Err("invalid password: use 1 to 1024 bytes".to_owned());
    }
    let hash: PasswordHash = Argon2::default()
        .hash_password(password)
        .map_err(|error| format!("the password cannot be hashed: {error}"))?;
    Ok(format!("{login}:{hash}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shown(login: &str, password: &str) -> Credentials {
        Credentials { login: login.to_owned(), password: password.as_bytes().to_owned() }
    }

    #[tokio::test]
    async fn only_the_password_of_the_login_is_right() {
        let text =
            format!("# logins\n\n{}\n{}\n", line("ann", b"secret").unwrap(), line("bob", b"other").unwrap());
        let users = Users::read(&text).unwrap();
        assert_eq!(users.verify(shown("ann", "secret"), false).await, Verdict::Right);
        assert_eq!(users.verify(shown("bob", "other"), false).await, Verdict::Right);
        // The last one has the password that the decoy hash is of.
        for (login, password) in [("ann", "other"), ("ann", ""), ("Ann", "secret"), ("eve", "secret")] {
            assert_eq!(
                users.verify(shown(login, password), false).await,
                Verdict::Wrong,
                "{login} {password}"
            );
        }
        assert_eq!(format!("{users:?}"), "Users(2)");
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_not_shown() {
        let good = line("ann", b"secret").unwrap();
        let costly = good.replace("m=19456", "m=1048576");
        let other = good.replace("argon2id", "argon2i");
        for (text, line) in [
            ("ann:secret".to_owned(), "line 1"),
            (format!("{good}\nann"), "line 2"),
            (format!("{good}\n{good}"), "line 2"),
            (costly, "line 1"),
            (other, "line 1"),
            (format!("a b{good}"), "line 1"),
            (String::new(), "it contains no login"),
        ] {
            let error = Users::read(&text).unwrap_err();
            assert!(
                error.starts_with(line) && !error.contains("secret") && !error.contains("m=19456"),
                "{error}"
            );
        }
        assert!(line("a:b", b"secret").is_err() && line("ann", b"").is_err());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("pixelward-users-{}", std::process::id()));
        std::fs::write(&path, line("ann", b"secret").unwrap()).unwrap();
        for (mode, fits) in [(0o600, true), (0o640, false), (0o602, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Users::load(&path).is_ok(), fits, "{mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
