//! Recipients who get no copy because somebody refused them before their message was analysed: the next hop
//! at MAIL or RCPT, or a limit. They have a line in the log, a count and an audit record like all others.

use super::line::Account;
use super::log::{Common, Trace};
use super::supply::Copied;
use super::{Arrival, Handled, Pipeline, proof};
use crate::guarded::{Panicked, guarded};
use crate::plan;
use crate::relay::Via;
use crate::smtp::Reply;

impl Pipeline {
    /// Records what the recipients of `arrival` heard at this command. A message that never came is empty.
    /// `about` is the reply for a sender without recipients.
    pub fn refused(&self, arrival: &Arrival, at: &'static str, replies: &[Reply], about: &Reply, via: &Via) {
        let noted = guarded(|| self.note_refused(arrival, at, replies, about, via));
        if let Err(Panicked { site }) = noted {
            metrics::counter!("pixelward_internal_errors_total").increment(1);
            tracing::error!(id = %arrival.id, site, "internal error: a refusal could not be recorded");
        }
    }

    fn note_refused(&self, arrival: &Arrival, at: &'static str, replies: &[Reply], about: &Reply, via: &Via) {
        let live = self.live();
        let addresses = arrival.addresses();
        let message = arrival.to_be_planned(&live, &addresses);
        let settings = live.settings();
        let (chosen, planned) =
            plan::plan_after(&settings, &message, None, |address| self.store.person(address));
        let account = Account { is_unread: true, ..Account::of(chosen, planned, message.at) };
        let trace = Trace { received: arrival.arrived.duration_since(arrival.began), ..Trace::default() };
        let common = Common::of(arrival, &account, &trace).refused_at(at);
        for (decided, reply) in account.plan.decided.iter().zip(replies) {
            let result = reply.class().name();
            metrics::counter!("pixelward_recipients_refused_total", "result" => result).increment(1);
            common.recipient((via, false), Some(decided.person), None, None, reply);
        }
        if let Some(seen) = &self.onlooker.refusals {
            seen(arrival, replies, about);
        }
        if addresses.is_empty() {
            let result = about.class().name();
            metrics::counter!("pixelward_recipients_refused_total", "result" => result).increment(1);
            common.recipient((via, false), None, None, None, about);
        } else if let Some(evidence) = &self.evidence {
            let handled = Handled::said(replies.to_vec(), about.clone());
            evidence.note(proof::note(&live, arrival, &account, &[Copied::default()], &handled, None, false));
        }
    }
}
