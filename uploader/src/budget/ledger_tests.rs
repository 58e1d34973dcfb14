//! The book of the budget: who goes on, who waits, and for how long at most.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn the_reserve_is_for_the_part_nearest_to_full() {
    let mut book = Ledger::new(32 * MIB, 8 * MIB);
    assert_eq!(book.wish(1, 0, 7 * MIB, None), Wish::Granted);
    assert_eq!(book.wish(2, 0, 6 * MIB, None), Wish::Granted);
    assert_eq!(book.wish(3, 0, 6 * MIB, None), Wish::Granted);
    assert_eq!(book.wish(4, 0, 5 * MIB, None), Wish::Granted);
    let Wish::Waits(emptiest) = book.wish(4, 5 * MIB, MIB, None) else {
        panic!("24 of 24 MiB are held");
    };
    let Wish::Waits(_) = book.wish(2, 6 * MIB, MIB, None) else {
        panic!("another part is nearer to full");
    };
    assert!(book.is_pressed());
    assert_eq!(
        book.wish(1, 7 * MIB, MIB, None),
        Wish::Granted,
        "the fullest"
    );
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
    assert_eq!(book.wish(1, 0, 6, None), Wish::Granted);
    assert_eq!(book.wish(2, 0, 4, None), Wish::Granted);
    let (Wish::Waits(empty), Wish::Waits(full)) =
        (book.wish(3, 0, 2, None), book.wish(2, 4, 5, None))
    else {
        panic!("all is held");
    };
    book.give_back(1, 6);
    let Wish::Waits(late) = book.wish(4, 0, 1, None) else {
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
    let mut ages: BTreeMap<HolderId, Since> = BTreeMap::new();
    for _ in 0..20_000 {
        let holder = dice(40);
        let busy = waits.values().any(|(id, _)| *id == holder);
        let has = held.get(&holder).copied().unwrap_or_default();
        if !busy && has < PART {
            let more = 1 + dice(PART - has);
            match book.wish(holder, has, more, ages.get(&holder).copied()) {
                Wish::Granted => *held.entry(holder).or_default() += more,
                Wish::Waits(ticket) => {
                    ages.entry(holder).or_insert(ticket.number());
                    waits.insert(ticket, (holder, more));
                }
            }
        } else if !busy {
            book.hand_over(holder, has);
            book.give_back(holder, has);
            held.remove(&holder);
            ages.remove(&holder);
        }
        for ticket in book.serve() {
            let (holder, more) = waits.remove(&ticket).unwrap();
            *held.entry(holder).or_default() += more;
        }
        assert_eq!(book.used, held.values().sum::<u64>());
        assert!(book.used <= 512);
        assert_eq!(book.waiting.len(), waits.len());
        assert_eq!(book.line.len(), waits.len());
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

const PART: u64 = 64;
const CHUNK: u64 = 8;
const CHUNKS: u64 = PART / CHUNK;
/// The sender that has no patience: it gives its place up again and again, and comes back for it.
const NEWCOMER: usize = 0;

/// Senders without end: each fills one part after the other, chunk by chunk, as fast as it is let.
struct Crowd {
    book: Ledger,
    senders: Vec<Sender>,
    /// Full parts that are in memory until they are stored.
    storing: Vec<HolderId>,
    /// Chunks that others than the nearest got since the oldest did.
    passed: u32,
    /// Chunks that anybody got, and how many there were when the newcomer had its own.
    granted: u64,
    newcomer: (u64, u64),
}

#[derive(Clone, Copy)]
struct Sender {
    holder: HolderId,
    held: u64,
    since: Option<Since>,
    ticket: Option<Ticket>,
}

impl Crowd {
    fn new(senders: usize, parts: u64) -> Self {
        let mut book = Ledger::new(parts * PART, PART);
        let fresh = |_| Sender {
            holder: book.number(),
            held: 0,
            since: None,
            ticket: None,
        };
        Self {
            senders: (0..senders).map(fresh).collect(),
            book,
            storing: Vec::new(),
            passed: 0,
            granted: 0,
            newcomer: (0, 0),
        }
    }

    /// Whether a chunk for this one passes over the oldest that waits.
    fn passes(&self, nth: usize, since: Since) -> Option<bool> {
        let sender = self.senders[nth];
        let oldest = *self.book.line.keys().next()?;
        (since > oldest).then(|| !self.book.is_nearest(sender.holder, sender.held))
    }

    fn got(&mut self, nth: usize, passes: Option<bool>) {
        match passes {
            Some(passes) => self.passed += u32::from(passes),
            None => self.passed = 0,
        }
        assert!(self.passed <= self.book.turn, "the oldest is passed over");
        self.granted += 1;
        if nth == NEWCOMER {
            self.newcomer = (self.newcomer.0 + 1, self.granted);
        }
        let sender = &mut self.senders[nth];
        sender.held += CHUNK;
        sender.since = None;
        sender.ticket = None;
        if sender.held == PART {
            self.book.hand_over(sender.holder, PART);
            self.storing.push(sender.holder);
            // What comes next is another part.
            let holder = self.book.number();
            let (held, since, ticket) = (0, None, None);
            *sender = Sender {
                holder,
                held,
                since,
                ticket,
            };
        }
    }

    /// It sends a chunk, if it does not wait for memory.
    fn send(&mut self, nth: usize) {
        let sender = self.senders[nth];
        if sender.ticket.is_some() {
            return;
        }
        let passes = self.passes(nth, sender.since.unwrap_or(Since::MAX));
        match self
            .book
            .wish(sender.holder, sender.held, CHUNK, sender.since)
        {
            Wish::Granted => self.got(nth, passes),
            Wish::Waits(ticket) => {
                let sender = &mut self.senders[nth];
                sender.since.get_or_insert(ticket.number());
                sender.ticket = Some(ticket);
            }
        }
    }

    /// It waits no more, has what it holds stored, and wants the same chunk again.
    fn lose_patience(&mut self, nth: usize) {
        let sender = &mut self.senders[nth];
        let Some(ticket) = sender.ticket.take() else {
            return;
        };
        assert!(self.book.give_up(ticket));
        self.book.give_back(sender.holder, sender.held);
        sender.held = 0;
        self.serve();
        self.send(nth);
    }

    fn store(&mut self, nth: usize) {
        if !self.storing.is_empty() {
            let holder = self.storing.swap_remove(nth % self.storing.len());
            self.book.give_back(holder, PART);
            self.serve();
        }
    }

    fn serve(&mut self) {
        while let Some(ticket) = self.book.next_in_turn() {
            let nth = self.senders.iter().position(|s| s.ticket == Some(ticket));
            let nth = nth.unwrap();
            let passes = self.passes(nth, self.senders[nth].since.unwrap());
            assert_eq!(self.book.serve_next(), Some(ticket));
            self.got(nth, passes);
        }
    }
}

proptest! {
    /// Who waited longest is passed over by [`TURN`] others at most, and by parts that are about to free their memory. So
    /// everybody goes on after a number of others that follows from how many wait, also who gives its place up and
    /// comes back, while fuller ones come for ever.
    /// covers: F6, F36
    #[test]
    fn whoever_waits_is_served_after_a_bounded_number_of_others(
        senders in 2_usize..24,
        parts in 3_u64..6,
        moves in prop::collection::vec((0_u8..10, any::<prop::sample::Index>()), 1_000..6_000),
    ) {
        let mut crowd = Crowd::new(senders, parts);
        // For each of those ahead so many others go on; two parts at most go out of memory before a chunk fits.
        let bound = senders as u64 * (u64::from(TURN) + 1 + 2 * CHUNKS);
        for (kind, who) in moves {
            match kind {
                0..7 => crowd.send(who.index(senders)),
                7 | 8 => crowd.store(who.index(usize::MAX)),
                _ => crowd.lose_patience(NEWCOMER),
            }
            // Somebody can always move: all wait only while full parts are stored.
            let all_wait = crowd.senders.iter().all(|sender| sender.ticket.is_some());
            prop_assert!(!all_wait || !crowd.storing.is_empty());
            if crowd.senders[NEWCOMER].ticket.is_none() {
                crowd.newcomer.1 = crowd.granted;
            }
            let waited = crowd.granted - crowd.newcomer.1;
            prop_assert!(waited <= bound, "{waited} chunks of others, {bound} at most");
        }
    }
}

/// What the lane by age is for: without it, one that comes back again and again is never served, whatever the others get.
#[test]
fn by_fullness_alone_whoever_gives_its_place_up_starves() {
    for (turn, served) in [(TURN, true), (u32::MAX, false)] {
        let mut crowd = Crowd::new(20, 4);
        crowd.book.turn = turn;
        // The others fill the memory first.
        (1..20).cycle().take(200).for_each(|nth| crowd.send(nth));
        for round in 0..2_000 {
            crowd.send(NEWCOMER);
            crowd.lose_patience(NEWCOMER);
            (1..20).for_each(|nth| crowd.send(nth));
            crowd.store(round);
        }
        let chunks = crowd.newcomer.0;
        assert!(crowd.granted > 2_000, "the others go on");
        assert_eq!(chunks > CHUNKS, served, "{chunks} of its chunks");
    }
}
