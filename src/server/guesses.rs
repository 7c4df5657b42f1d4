//! Limits password guessing, across all sessions and listeners.
//!
//! Promised: whether a password is checked is decided before its hash is computed. A guesser waits, and after
//! a few wrong passwords gets a refusal that costs nothing; others do not wait for guessers. No client can
//! make the state grow without bound.
//!
//! A network address (for IPv6, a /64) may send a few wrong passwords, and regains one per minute. An attempt
//! in progress counts as wrong until it turns out right, so many concurrent sessions have no more attempts
//! than one. A login has a larger allowance, because anyone can use it up; beyond that its attempts are
//! checked slowly, one after another. An address from which a login succeeded before is known for that login
//! and has a separate allowance, which others cannot use up.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::clients::{Remembered, network};

/// How many wrong passwords an address may send before it is refused.
const OF_ADDRESS: u32 = 5;
/// How many may be sent for a login before it is checked slowly.
const OF_LOGIN: u32 = 20;
/// How many attempts of one address are checked concurrently, so that it leaves room for others.
const TOGETHER: u32 = 2;
/// How much of a login is remembered, in bytes. Longer ones do not exist ([`super::users::check_login`]), and
/// share one entry.
const MAX_LOGIN: usize = 255;
/// After how long a wrong password is forgotten.
const FORGIVEN: Duration = Duration::from_secs(60);
/// The delay of the reply to the first wrong password; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// How often the delay doubles: up to 16 s.
const DOUBLINGS: u32 = 6;
/// How long an attempt waits for its turn.
const TURN: Duration = Duration::from_secs(20);

/// The state of attempts.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    accounts: Mutex<Accounts>,
    /// Notified when an attempt ends.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Accounts {
    addresses: Remembered<IpAddr, Account>,
    logins: Remembered<String, Account>,
    /// Addresses from which a login succeeded.
    known: Remembered<(IpAddr, String), Account>,
}

/// Wrong passwords, and attempts in progress.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    wrong: u32,
    under_way: u32,
}

/// Why a password is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many were wrong; the reply must be delayed by this long.
    Guessing(Duration),
    /// Other attempts came first for too long.
    Busy,
}

/// An attempt whose password may be checked. One that is dropped without a verdict counts as wrong.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    guesses: &'a Guesses,
    address: IpAddr,
    login: String,
    /// Whether the login succeeded from this address before.
    pub(super) is_known: bool,
    is_over: bool,
}

/// The decision about an attempt at one moment.
enum Now {
    /// It begins.
    Begins {
        is_known: bool,
    },
    /// It begins after this delay.
    BeginsIn(Duration),
    /// Other attempts come first.
    Waits,
    Refused(Duration),
}

impl Guesses {
    /// Waits until a password may be checked.
    ///
    /// # Errors
    ///
    /// When it may not be.
    pub(super) async fn begin(&self, address: IpAddr, login: &str) -> Result<Attempt<'_>, Refused> {
        let address = network(address);
        let login = login.get(..login.floor_char_boundary(MAX_LOGIN)).unwrap_or_default();
        let (attempt, delay) =
            timeout(TURN, self.turn(address, login)).await.unwrap_or(Err(Refused::Busy))?;
        tokio::time::sleep(delay).await;
        Ok(attempt)
    }

    /// An attempt that has begun, and the delay before its password is checked.
    async fn turn(&self, address: IpAddr, login: &str) -> Result<(Attempt<'_>, Duration), Refused> {
        let attempt =
            |is_known| Attempt { guesses: self, address, login: login.to_owned(), is_known, is_over: false };
        loop {
            // Before the decision: an attempt that ends later wakes this one.
            let ended = self.ended.notified();
            let now = self.locked().look(address, login, Instant::now());
            match now {
                Now::Begins { is_known } => return Ok((attempt(is_known), Duration::ZERO)),
                Now::BeginsIn(delay) => return Ok((attempt(false), delay)),
                Now::Refused(delay) => return Err(Refused::Guessing(delay)),
                Now::Waits => ended.await,
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    /// Decides about an attempt. If it begins, it is in progress from here on.
    fn look(&mut self, address: IpAddr, login: &str, now: Instant) -> Now {
        let known = self.known.get(&(address, login.to_owned())).map(|account| settled(account, now));
        if let Some(account) = known.filter(|account| account.wrong < OF_ADDRESS) {
            if account.wrong + account.under_way >= OF_ADDRESS {
                return Now::Waits;
            }
            account.under_way += 1;
            return Now::Begins { is_known: true };
        }
        let of_address = settled(self.addresses.of(address, now, Account::default), now);
        if of_address.wrong >= OF_ADDRESS {
            let delay = delay(of_address.wrong);
            return Now::Refused(delay);
        }
        if of_address.under_way >= TOGETHER || of_address.wrong + of_address.under_way >= OF_ADDRESS {
            return Now::Waits;
        }
        let of_login = settled(self.logins.of(login.to_owned(), now, Account::default), now);
        let beyond = of_login.wrong.checked_sub(OF_LOGIN);
        if beyond.is_some() && of_login.under_way > 0 {
            return Now::Waits;
        }
        of_address.under_way += 1;
        of_login.under_way += 1;
        beyond.map_or(Now::Begins { is_known: false }, |beyond| Now::BeginsIn(delay(beyond)))
    }

    /// Takes back an attempt without a result.
    fn give_back(&mut self, attempt: &Attempt<'_>) {
        let back = |account: Option<&mut (Account, Instant)>| {
            if let Some((account, _)) = account {
                account.under_way = account.under_way.saturating_sub(1);
            }
        };
        if attempt.is_known {
            return back(self.known.get(&(attempt.address, attempt.login.clone())));
        }
        back(self.logins.get(&attempt.login));
        back(self.addresses.get(&attempt.address));
    }

    /// Notes the result of an attempt; returns the delay of its reply.
    fn end(&mut self, attempt: &Attempt<'_>, is_right: bool, now: Instant) -> Duration {
        let pair = (attempt.address, attempt.login.clone());
        if is_right {
            self.known.of(pair.clone(), now, Account::default);
        }
        let wrong = u32::from(!is_right);
        if attempt.is_known {
            return self.known.get(&pair).map_or(Duration::ZERO, |account| ended(account, wrong, now));
        }
        if let Some(account) = self.logins.get(&attempt.login) {
            ended(account, wrong, now);
        }
        self.addresses.get(&attempt.address).map_or(FIRST_DELAY, |account| ended(account, wrong, now))
    }
}

/// Updates the account to the current time.
fn settled(account: &mut (Account, Instant), now: Instant) -> &mut Account {
    let (guesses, since) = account;
    let minutes = now.saturating_duration_since(*since).as_secs() / FORGIVEN.as_secs();
    let minutes = u32::try_from(minutes).unwrap_or(u32::MAX);
    guesses.wrong = guesses.wrong.saturating_sub(minutes);
    // The rest of a minute counts on.
    *since = if guesses.wrong == 0 { now } else { *since + FORGIVEN * minutes };
    guesses
}

/// Ends an attempt in progress; returns the delay of its reply.
fn ended(account: &mut (Account, Instant), wrong: u32, now: Instant) -> Duration {
    let account = settled(account, now);
    account.under_way = account.under_way.saturating_sub(1);
    let delay = delay(account.wrong);
    account.wrong = (account.wrong + wrong).min(OF_LOGIN + DOUBLINGS);
    delay
}

fn delay(wrong: u32) -> Duration {
    FIRST_DELAY * (1 << wrong.min(DOUBLINGS))
}

impl Attempt<'_> {
    /// Notes that the password was right.
    pub(super) fn right(mut self) {
        self.end(true);
    }

    /// Notes that it was wrong; returns the delay of the reply.
    pub(super) fn wrong(mut self) -> Duration {
        self.end(false)
    }

    /// Notes that it was not checked.
    pub(super) fn unknown(mut self) {
        self.is_over = true;
        self.guesses.locked().give_back(&self);
        self.guesses.ended.notify_waiters();
    }

    fn end(&mut self, is_right: bool) -> Duration {
        self.is_over = true;
        let delay = self.guesses.locked().end(self, is_right, Instant::now());
        self.guesses.ended.notify_waiters();
        delay
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// What is decided now, in a word.
    fn look(guesses: &Guesses, from: &str, login: &str, now: Instant) -> &'static str {
        match guesses.locked().look(network(address(from)), login, now) {
            Now::Begins { is_known: true } => "known",
            Now::Begins { is_known: false } => "begins",
            Now::BeginsIn(_) => "slowly",
            Now::Waits => "waits",
            Now::Refused(_) => "refused",
        }
    }

    /// The end of an attempt that has begun; gives the delay in milliseconds.
    fn end(guesses: &Guesses, from: &str, login: &str, is_known: bool, is_right: bool, now: Instant) -> u128 {
        let login = login.to_owned();
        let attempt = Attempt { guesses, address: network(address(from)), login, is_known, is_over: true };
        guesses.locked().end(&attempt, is_right, now).as_millis()
    }

    #[test]
    fn an_address_has_five_wrong_passwords_which_come_back_one_a_minute() {
        let guesses = Guesses::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let wrong = |from: &str, login: &str, seconds| {
            assert_eq!(look(&guesses, from, login, at(seconds)), "begins");
            end(&guesses, from, login, false, false, at(seconds))
        };
        let delays: Vec<u128> = (0..5).map(|number| wrong("192.0.2.1", &format!("{number}"), 0)).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000]);
        assert_eq!(look(&guesses, "192.0.2.1", "another", at(0)), "refused");
        assert_eq!(look(&guesses, "192.0.2.1", "another", at(59)), "refused");
        assert_eq!(wrong("192.0.2.2", "0", 59), 250, "others are not meant");
        assert_eq!(wrong("192.0.2.1", "0", 60), 4000);
        assert_eq!(look(&guesses, "192.0.2.1", "0", at(119)), "refused");
        assert_eq!(wrong("192.0.2.1", "0", 130), 4000);
        assert_eq!(wrong("192.0.2.1", "0", 180), 4000, "what is left of a minute counts on");
        assert_eq!(wrong("192.0.2.1", "0", 6000), 250);
        let delays = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|from| wrong(from, "v6", 0));
        assert_eq!(delays, [250, 500, 250]);
    }

    #[test]
    fn attempts_under_way_count_as_wrong_until_they_are_right() {
        let guesses = Guesses::default();
        let now = Instant::now();
        let from = "192.0.2.1";
        assert_eq!([0; 3].map(|_| look(&guesses, from, "ann", now)), ["begins", "begins", "waits"]);
        end(&guesses, from, "ann", false, true, now);
        // It is known now, and has an account of its own.
        assert_eq!(
            [0; 6].map(|_| look(&guesses, from, "ann", now)),
            ["known", "known", "known", "known", "known", "waits"]
        );
        assert_eq!(look(&guesses, from, "bob", now), "begins");
        assert_eq!(look(&guesses, from, "bob", now), "waits", "one of ann is still under way");
        for _ in 0..5 {
            end(&guesses, from, "ann", true, false, now);
        }
        assert_eq!(look(&guesses, from, "ann", now), "waits", "who is known and guesses is like others");
    }

    #[test]
    fn a_login_under_attack_is_slow_but_from_where_it_is_known() {
        let guesses = Guesses::default();
        let now = Instant::now();
        let network = |number: u32| format!("198.51.{}.{}", number / 250, number % 250 + 1);
        assert_eq!(look(&guesses, "192.0.2.1", "ann", now), "begins");
        end(&guesses, "192.0.2.1", "ann", false, true, now);
        for number in 0..OF_LOGIN {
            assert_eq!(look(&guesses, &network(number), "ann", now), "begins", "{number}");
            end(&guesses, &network(number), "ann", false, false, now);
        }
        assert_eq!(look(&guesses, "203.0.113.1", "ann", now), "slowly");
        assert_eq!(look(&guesses, "203.0.113.2", "ann", now), "waits", "one after the other");
        assert_eq!(look(&guesses, "203.0.113.2", "bob", now), "begins", "of another login");
        assert_eq!(look(&guesses, "192.0.2.1", "ann", now), "known");
    }

    #[tokio::test]
    async fn of_a_login_no_more_is_remembered_than_one_can_have() {
        let guesses = Guesses::default();
        let long = "\u{e9}".repeat(5000);
        guesses.begin(address("192.0.2.1"), &long).await.unwrap().wrong();
        let accounts = guesses.locked();
        assert_eq!(accounts.logins.keys().map(String::len).collect::<Vec<_>>(), [254]);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_another_ends_and_a_dropped_attempt_counts_as_wrong() {
        let guesses = Guesses::default();
        let from = address("192.0.2.1");
        let first = guesses.begin(from, "ann").await.unwrap();
        let second = guesses.begin(from, "ann").await.unwrap();
        let (third, ()) = tokio::join!(guesses.begin(from, "ann"), async { first.right() });
        assert!(third.unwrap().is_known);
        drop(second);
        let account = *guesses.locked().addresses.get(&from).unwrap();
        assert_eq!((account.0.wrong, account.0.under_way), (1, 0));
    }
}
