//! Who holds how many bytes, and who gets the next ones. Pure: no clock, no tasks.
//!
//! The last `reserve` bytes are for the part that is nearest to full: it alone can always go on
//! until it is stored, which frees memory for the others. So there is always one that moves, and the
//! emptiest are the first that stop being read.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One place where bytes are gathered.
pub(super) type HolderId = u64;

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

    /// Whether `more` bytes fit for one that holds `held`.
    fn fits(&self, holder: HolderId, held: u64, more: u64) -> bool {
        let others = self.filling.iter().rev().find(|(_, id)| *id != holder);
        let nearest = others.is_none_or(|(most, _)| *most <= held);
        let limit = if nearest {
            self.limit
        } else {
            self.limit - self.reserve
        };
        self.used.saturating_add(more) <= limit
    }

    /// Takes `more` bytes for one that holds `held`, if nobody fuller waits and they fit.
    pub(super) fn wish(&mut self, holder: HolderId, held: u64, more: u64) -> Wish {
        let ticket = Ticket(Reverse(held), self.number());
        let first = self.waiting.keys().next().is_none_or(|head| ticket < *head);
        if first && self.fits(holder, held, more) {
            self.grow(holder, held, more);
            return Wish::Granted;
        }
        self.waiting.insert(ticket, Waiter { holder, more });
        Wish::Waits(ticket)
    }

    fn grow(&mut self, holder: HolderId, held: u64, more: u64) {
        self.used += more;
        self.filling.remove(&(held, holder));
        self.filling.insert((held + more, holder));
    }

    /// Takes for the waiters, in their order, what fits now; the tickets that are served.
    pub(super) fn serve(&mut self) -> Vec<Ticket> {
        let mut served = Vec::new();
        while let Some((ticket, waiter)) = self.waiting.first_key_value() {
            let (ticket, holder, more) = (*ticket, waiter.holder, waiter.more);
            let held = ticket.0.0;
            if !self.fits(holder, held, more) {
                break;
            }
            self.waiting.remove(&ticket);
            self.grow(holder, held, more);
            served.push(ticket);
        }
        served
    }

    /// Forgets a waiter; false when it was served before.
    pub(super) fn give_up(&mut self, ticket: Ticket) -> bool {
        self.waiting.remove(&ticket).is_some()
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
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_reserve_is_for_the_part_nearest_to_full() {
        let mut book = Ledger::new(32 * MIB, 8 * MIB);
        assert_eq!(book.wish(1, 0, 7 * MIB), Wish::Granted);
        assert_eq!(book.wish(2, 0, 6 * MIB), Wish::Granted);
        assert_eq!(book.wish(3, 0, 6 * MIB), Wish::Granted);
        assert_eq!(book.wish(4, 0, 5 * MIB), Wish::Granted);
        let Wish::Waits(emptiest) = book.wish(4, 5 * MIB, MIB) else {
            panic!("24 of 24 MiB are held");
        };
        let Wish::Waits(_) = book.wish(2, 6 * MIB, MIB) else {
            panic!("another part is nearer to full");
        };
        assert!(book.is_pressed());
        assert_eq!(book.wish(1, 7 * MIB, MIB), Wish::Granted, "the fullest");
        assert_eq!(book.serve(), [], "nothing was freed");
        book.hand_over(1, 8 * MIB);
        assert_eq!(book.serve().len(), 1, "the next is nearest now");
        book.give_back(1, 8 * MIB);
        assert_eq!(book.serve(), [emptiest], "its bytes are free");
        assert!(!book.give_up(emptiest), "it was served");
        assert_eq!(book.free(), 32 * MIB - 19 * MIB);
    }

    #[test]
    fn waiters_are_served_fullest_first_and_nobody_barges() {
        let mut book = Ledger::new(10, 0);
        assert_eq!(book.wish(1, 0, 6), Wish::Granted);
        assert_eq!(book.wish(2, 0, 4), Wish::Granted);
        let (Wish::Waits(empty), Wish::Waits(full)) = (book.wish(3, 0, 2), book.wish(2, 4, 5))
        else {
            panic!("all is held");
        };
        book.give_back(1, 6);
        let Wish::Waits(late) = book.wish(4, 0, 1) else {
            panic!("others wait");
        };
        assert_eq!(
            book.serve(),
            [full],
            "the emptier ones do not fit beside it"
        );
        book.give_back(2, 9);
        assert_eq!(book.serve(), [empty, late]);
        assert!(!book.is_pressed());
    }

    /// Whatever happens, the book balances, and the fullest of all can go on to a whole part.
    #[test]
    fn the_book_balances_over_random_lives() {
        const PART: u64 = 64;
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        let mut dice = move |below: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % below
        };
        let mut book = Ledger::new(512, PART);
        let mut held: BTreeMap<HolderId, u64> = BTreeMap::new();
        let mut waits: BTreeMap<Ticket, (HolderId, u64)> = BTreeMap::new();
        for _ in 0..20_000 {
            let holder = dice(40);
            let busy = waits.values().any(|(id, _)| *id == holder);
            let has = held.get(&holder).copied().unwrap_or_default();
            if !busy && has < PART {
                let more = 1 + dice(PART - has);
                match book.wish(holder, has, more) {
                    Wish::Granted => *held.entry(holder).or_default() += more,
                    Wish::Waits(ticket) => {
                        waits.insert(ticket, (holder, more));
                    }
                }
            } else if !busy {
                book.hand_over(holder, has);
                book.give_back(holder, has);
                held.remove(&holder);
            }
            for ticket in book.serve() {
                let (holder, more) = waits.remove(&ticket).unwrap();
                *held.entry(holder).or_default() += more;
            }
            assert_eq!(book.used, held.values().sum::<u64>());
            assert!(book.used <= 512);
            assert_eq!(book.waiting.len(), waits.len());
            let fullest = book.filling.last().copied();
            if let Some((most, id)) = fullest.filter(|(most, _)| *most < PART) {
                let waits_itself = waits.values().any(|(holder, _)| *holder == id);
                assert!(
                    waits_itself || book.fits(id, most, 1),
                    "it can always go on"
                );
                assert!(!waits_itself, "and is never the one that waits");
            }
        }
    }
}
