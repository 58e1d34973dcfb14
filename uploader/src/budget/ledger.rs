//! Who holds how many bytes, and who gets the next ones. Pure: no clock, no tasks.
//!
//! The last `reserve` bytes are for the part that is nearest to full: it alone can always go on
//! until it is stored, which frees memory for the others. So there is always one that moves, and the
//! emptiest are the first that stop being read. Beside it there is a lane by age, or a newcomer
//! would wait for as long as fuller ones come, and its client would take the silence for a loss:
//! after [`TURN`] others it is the turn of the one that waited longest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// So many others, the part nearest to full aside, are served before who waited longest is.
pub(super) const TURN: u32 = 1;

/// One place where bytes are gathered.
pub(super) type HolderId = u64;

/// Since when somebody waits: the number of its first ticket. The lower, the older.
pub(super) type Since = u64;

/// The order in which waiters are served: fullest first, then first come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(Reverse<u64>, u64);

impl Ticket {
    /// Its number, which no other has.
    pub(super) fn number(self) -> u64 {
        self.1
    }
}

#[derive(Debug)]
struct Waiter {
    holder: HolderId,
    more: u64,
    since: Since,
}

/// What became of a wish for memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The bytes are taken.
    Granted,
    /// There is no room; the ticket is called by [`Ledger::serve`].
    Waits(Ticket),
}

/// The book of the budget.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: u64,
    reserve: u64,
    used: u64,
    next: u64,
    filling: BTreeSet<(u64, HolderId)>,
    waiting: BTreeMap<Ticket, Waiter>,
    /// The same waiters, oldest first.
    line: BTreeMap<Since, Ticket>,
    /// Others that were served since the oldest was, and how many may be.
    passed: u32,
    turn: u32,
}

impl Ledger {
    pub(super) fn new(limit: u64, reserve: u64) -> Self {
        Self {
            limit,
            reserve: reserve.min(limit / 2),
            used: 0,
            next: 0,
            filling: BTreeSet::new(),
            waiting: BTreeMap::new(),
            line: BTreeMap::new(),
            passed: 0,
            turn: TURN,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(super) fn is_pressed(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no other part is nearer to full than one that holds `held`.
    fn is_nearest(&self, holder: HolderId, held: u64) -> bool {
        let others = self.filling.iter().rev().find(|(_, id)| *id != holder);
        others.is_none_or(|(most, _)| *most <= held)
    }

    /// Whether `more` bytes fit for one that holds `held`.
    fn fits(&self, holder: HolderId, held: u64, more: u64) -> bool {
        let limit = if self.is_nearest(holder, held) {
            self.limit
        } else {
            self.limit - self.reserve
        };
        self.used.saturating_add(more) <= limit
    }

    /// Whether the next bytes are for the oldest.
    fn is_turn_of_age(&self) -> bool {
        self.passed >= self.turn && !self.line.is_empty()
    }

    /// Whether nobody who waits is older.
    fn is_oldest(&self, since: Since) -> bool {
        self.line
            .keys()
            .next()
            .is_none_or(|oldest| since <= *oldest)
    }

    /// Takes `more` bytes for one that holds `held`, if it is its turn and they fit. `since` is
    /// when it first wished for them, if that was in vain.
    pub(super) fn wish(
        &mut self,
        holder: HolderId,
        held: u64,
        more: u64,
        since: Option<Since>,
    ) -> Wish {
        let ticket = Ticket(Reverse(held), self.number());
        let since = since.unwrap_or(ticket.number());
        let may = if self.is_turn_of_age() {
            self.is_oldest(since) || self.is_nearest(holder, held)
        } else {
            self.waiting.keys().next().is_none_or(|head| ticket < *head)
        };
        if may && self.fits(holder, held, more) {
            self.count(holder, held, since);
            self.grow(holder, held, more);
            return Wish::Granted;
        }
        let waiter = Waiter {
            holder,
            more,
            since,
        };
        self.waiting.insert(ticket, waiter);
        self.line.insert(since, ticket);
        Wish::Waits(ticket)
    }

    /// Counts one that is about to be served, for those who wait longer.
    fn count(&mut self, holder: HolderId, held: u64, since: Since) {
        if self.is_oldest(since) {
            self.passed = 0;
        } else if !(self.is_turn_of_age() && self.is_nearest(holder, held)) {
            self.passed += 1;
        }
    }

    fn grow(&mut self, holder: HolderId, held: u64, more: u64) {
        self.used += more;
        self.filling.remove(&(held, holder));
        self.filling.insert((held + more, holder));
    }

    /// Takes for the waiters, each in its turn, what fits now; the tickets that are served.
    pub(super) fn serve(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| self.serve_next()).collect()
    }

    fn serve_next(&mut self) -> Option<Ticket> {
        let ticket = self.next_in_turn()?;
        let waiter = self.forget(ticket)?;
        let held = ticket.0.0;
        self.count(waiter.holder, held, waiter.since);
        self.grow(waiter.holder, held, waiter.more);
        Some(ticket)
    }

    /// Who is served next, if what it wants fits.
    fn next_in_turn(&self) -> Option<Ticket> {
        let fits = |ticket: &Ticket| {
            let waiter = self.waiting.get(ticket);
            waiter.is_some_and(|waiter| self.fits(waiter.holder, ticket.0.0, waiter.more))
        };
        let (fullest, waiter) = self.waiting.first_key_value()?;
        if !self.is_turn_of_age() {
            return Some(*fullest).filter(fits);
        }
        let oldest = self.line.values().next().copied().filter(fits);
        // Only what frees memory may go before it.
        let nearest = self.is_nearest(waiter.holder, fullest.0.0);
        oldest.or_else(|| Some(*fullest).filter(|ticket| nearest && fits(ticket)))
    }

    fn forget(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiting.remove(&ticket)?;
        self.line.remove(&waiter.since);
        Some(waiter)
    }

    /// Forgets a waiter; false when it was served before.
    pub(super) fn give_up(&mut self, ticket: Ticket) -> bool {
        self.forget(ticket).is_some()
    }

    /// Bytes that leave the place where they were gathered; they are in memory until [`Self::give_back`].
    pub(super) fn hand_over(&mut self, holder: HolderId, held: u64) {
        self.filling.remove(&(held, holder));
    }

    /// Bytes that are in memory no more.
    pub(super) fn give_back(&mut self, holder: HolderId, held: u64) {
        self.filling.remove(&(held, holder));
        self.used = self.used.saturating_sub(held);
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
