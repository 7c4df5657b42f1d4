//! MTA-STS (RFC 8461): the policy of a domain says which exchangers it has, and that mail goes to them over
//! verified TLS only.
//!
//! A policy that was fetched stands until it ends, whatever becomes of its lookup. It is kept in a file, so
//! that who makes lookups fail gains nothing by a restart. It is renewed when half of its time is over, or
//! when the domain announces another one, as connections are made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pixelward_files::replace_unsynced;
use pixelward_net::fetch;
use tokio::sync::Mutex;

use super::exchangers::Exchangers;

/// The longest policy (RFC 8461, section 3.3), and how long fetching it may take.
const MOST: (usize, Duration) = (64 * 1024, Duration::from_secs(15));
/// How long after a failure nothing is fetched (RFC 8461, section 3.3).
const REST: Duration = Duration::from_secs(300);
/// The longest time that a policy can stand, in seconds (RFC 8461, section 3.2).
const MOST_AGE: u64 = 31_557_600;
/// How the file of a policy begins.
const FORMAT: &str = "1";

/// What a domain wants to be done with its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No mail to exchangers that do not fulfil it.
    Enforce,
    /// That it is reported who would not get any.
    Testing,
    /// Nothing.
    None,
}

/// The policy of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is done with it.
    pub mode: Mode,
    max_age: u64,
    exchangers: Vec<String>,
}

impl Policy {
    /// Reads a policy. Keys that are unknown do not matter, and of one that is there twice, the first counts.
    pub(super) fn read(text: &str) -> Result<Policy, String> {
        let fields: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let value = |key: &str| fields.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        if value("version") != Some("STSv1") {
            return Err("its version is not STSv1".to_owned());
        }
        let mode = match value("mode") {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err("its mode is none of enforce, testing and none".to_owned()),
        };
        let max_age = value("max_age").and_then(|age| age.parse::<u64>().ok()).map(|age| age.min(MOST_AGE));
        let max_age = max_age.ok_or("its max_age is not a number")?;
        let named = fields.iter().filter(|(name, _)| *name == "mx");
        let exchangers: Vec<String> = named.map(|(_, value)| value.to_ascii_lowercase()).collect();
        if exchangers.is_empty() && mode != Mode::None {
            return Err("it names no mx".to_owned());
        }
        Ok(Policy { mode, max_age, exchangers })
    }

    /// Returns whether it names an exchanger. An asterisk stands for one label.
    pub fn names(&self, exchanger: &str) -> bool {
        let exchanger = exchanger.to_ascii_lowercase();
        let (label, rest) = exchanger.split_once('.').unwrap_or_default();
        self.exchangers.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(domain) => !label.is_empty() && rest == domain,
            None => *pattern == exchanger,
        })
    }
}

/// Reads the id that a domain announces. More than one record is none (RFC 8461, section 3.1).
fn id(texts: &[String]) -> Option<String> {
    let is_ours = |text: &&String| text.split(';').next().is_some_and(|version| version.trim() == "v=STSv1");
    let mut ours = texts.iter().filter(is_ours);
    let (Some(text), None) = (ours.next(), ours.next()) else { return None };
    let id = text.split(';').find_map(|field| field.trim().strip_prefix("id="))?.trim();
    let is_one = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_one.then(|| id.to_owned())
}

/// A policy as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fetched {
    id: String,
    /// In seconds since 1970.
    at: u64,
    text: String,
    policy: Policy,
}

impl Fetched {
    fn stands(&self, now: u64) -> bool {
        now < self.at.saturating_add(self.policy.max_age)
    }

    fn is_ageing(&self, now: u64) -> bool {
        now >= self.at.saturating_add(self.policy.max_age / 2)
    }

    /// Reads the file of one.
    fn load(path: &Path) -> Option<Fetched> {
        let content = std::fs::read_to_string(path).ok()?;
        let (head, text) = content.split_once('\n')?;
        let mut words = head.split(' ');
        let (FORMAT, id, at) = (words.next()?, words.next()?, words.next()?) else { return None };
        let policy = Policy::read(text).ok()?;
        Some(Fetched { id: id.to_owned(), at: at.parse().ok()?, text: text.to_owned(), policy })
    }

    fn content(&self) -> String {
        format!("{FORMAT} {} {}\n{}", self.id, self.at, self.text)
    }
}

/// The policy of one domain, fetched and kept.
pub struct MtaSts {
    domain: String,
    exchangers: Exchangers,
    tls: Arc<rustls::ClientConfig>,
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fetched: Option<Fetched>,
    /// When the last attempt failed.
    failed: Option<Instant>,
}

impl fmt::Debug for MtaSts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MtaSts({})", self.domain)
    }
}

impl MtaSts {
    /// Creates it, with what an earlier one has kept in this directory.
    pub fn new(
        domain: &str,
        exchangers: Exchangers,
        tls: Arc<rustls::ClientConfig>,
        directory: &Path,
    ) -> Arc<MtaSts> {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let safe = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
        // Names that differ in more than that would share a file, so that the name is in it as well.
        let digest = crc32fast::hash(domain.as_bytes());
        let file = format!("mta-sts-{}-{digest:08x}", domain.chars().map(safe).collect::<String>());
        let file = directory.join(file);
        let state = Mutex::new(State { fetched: Fetched::load(&file), failed: None });
        Arc::new(MtaSts { domain, exchangers, tls, file, state })
    }

    /// Returns the policy that stands, if there is one. Fetches it where that is due.
    pub async fn policy(&self) -> Option<Policy> {
        let now = seconds();
        let announced = self.exchangers.texts(&format!("_mta-sts.{}", self.domain)).await;
        let mut state = self.state.lock().await;
        let standing = state.fetched.clone().filter(|fetched| fetched.stands(now));
        let kept = standing.clone().map(|fetched| fetched.policy);
        let id = match announced.map(|texts| id(&texts)) {
            Ok(Some(id)) => id,
            Ok(None) => return kept,
            Err(error) => {
                tracing::debug!(
                    domain = self.domain,
                    error,
                    "whether there is an MTA-STS policy is not known"
                );
                return kept;
            }
        };
        let is_known = standing.is_some_and(|fetched| fetched.id == id && !fetched.is_ageing(now));
        if is_known || state.failed.is_some_and(|at| at.elapsed() < REST) {
            return kept;
        }
        match self.fetch(id, now).await {
            Ok(fetched) => {
                let policy = fetched.policy.clone();
                self.keep(&fetched).await;
                *state = State { fetched: Some(fetched), failed: None };
                Some(policy)
            }
            Err(error) => {
                state.failed = Some(Instant::now());
                metrics::counter!("pixelward_mta_sts_fetch_errors_total").increment(1);
                let has_one = kept.is_some();
                tracing::warn!(
                    domain = self.domain,
                    error,
                    has_one,
                    "the MTA-STS policy of the domain cannot be fetched"
                );
                kept
            }
        }
    }

    async fn fetch(&self, id: String, now: u64) -> Result<Fetched, String> {
        let host = format!("mta-sts.{}", self.domain);
        let addresses = self.exchangers.addresses(&host).await?;
        let text = fetch::text(&host, &addresses, "/.well-known/mta-sts.txt", &self.tls, MOST).await?;
        let policy = Policy::read(&text)?;
        tracing::info!(
            domain = self.domain, id, mode = ?policy.mode, max_age = policy.max_age,
            "the MTA-STS policy of the domain was fetched"
        );
        Ok(Fetched { id, at: now, text, policy })
    }

    /// Writes the file. Without it the policy stands until the relay ends.
    async fn keep(&self, fetched: &Fetched) {
        let (file, content) = (self.file.clone(), fetched.content());
        let written = tokio::task::spawn_blocking(move || replace_unsynced(&file, content.as_bytes())).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(file = %self.file.display(), %error, "an MTA-STS policy could not be kept");
        }
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx1.home.example\r\nmx: *.Pool.example\r\n\
                        max_age: 604800\r\n";

    #[test]
    fn an_asterisk_stands_for_one_label() {
        let policy = Policy::read(TEXT).unwrap();
        for (exchanger, is_named) in [
            ("mx1.home.example", true),
            ("MX1.home.example", true),
            ("a.pool.example", true),
            ("a.b.pool.example", false),
            ("pool.example", false),
            (".pool.example", false),
            ("mx2.home.example", false),
            ("mx1.home.example.evil.example", false),
            ("", false),
        ] {
            assert_eq!(policy.names(exchanger), is_named, "{exchanger}");
        }
    }

    #[test]
    fn a_policy_is_read_as_rfc_8461_writes_it() {
        let policy = Policy::read(TEXT).unwrap();
        assert_eq!((policy.mode, policy.max_age), (Mode::Enforce, 604_800));
        let with = |from: &str, to: &str| Policy::read(&TEXT.replace(from, to).replace('\r', ""));
        assert_eq!(with("enforce", "testing").unwrap().mode, Mode::Testing);
        assert_eq!(with("604800", "99999999999").unwrap().max_age, MOST_AGE);
        assert_eq!(with("max_age: 604800", "max_age: 60\nmax_age: 90\nnews: 1").unwrap().max_age, 60);
        assert_eq!(Policy::read("version: STSv1\nmode: none\nmax_age: 60\n").unwrap().mode, Mode::None);
        for (from, to) in [
            ("STSv1", "STSv2"),
            ("enforce", "on"),
            ("604800", "-1"),
            ("604800", "a week"),
            ("mx:", "ex:"),
            ("version", "edition"),
        ] {
            assert!(with(from, to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn an_announcement_has_one_record_with_an_id() {
        let check = |texts: &[&str]| id(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let is_one = Some("20260101T1".to_owned());
        assert_eq!(check(&["v=STSv1; id=20260101T1;"]), is_one);
        assert_eq!(check(&["v=spf1 -all", "v=STSv1;id=20260101T1"]), is_one);
        for texts in [
            &["v=STSv1; id=1;", "v=STSv1; id=2;"][..],
            &["v=STSv1;"],
            &["v=STSv1; id=;"],
            &["v=STSv1; id=a-b;"],
            &["v=STSv10; id=1;"],
            &["id=1; v=STSv1;"],
            &[],
        ] {
            assert_eq!(check(texts), None, "{texts:?}");
        }
        assert_eq!(check(&[&format!("v=STSv1; id={};", "a".repeat(33))]), None);
    }

    #[test]
    fn a_kept_policy_is_read_again_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        std::fs::write(&path, format!("1 20260101T1 1000\n{TEXT}")).unwrap();
        let kept = Fetched::load(&path).unwrap();
        assert_eq!((kept.id.as_str(), kept.at), ("20260101T1", 1000));
        assert_eq!(kept.content(), std::fs::read_to_string(&path).unwrap());
        for (now, stands, is_ageing) in
            [(1000, true, false), (303_400, true, true), (605_799, true, true), (605_800, false, true)]
        {
            assert_eq!((kept.stands(now), kept.is_ageing(now)), (stands, is_ageing), "{now}");
        }
        for content in ["", "1 a\nversion: STSv1", "2 a 1\n", "1 a b\n"] {
            std::fs::write(&path, format!("{content}{}", if content.ends_with('\n') { TEXT } else { "" }))
                .unwrap();
            assert_eq!(Fetched::load(&path), None, "{content:?}");
        }
    }
}
