//! The end of a writer: drain what is in flight, store the slice, swap to what is durable. Only
//! contiguous stored parts and then the slice count; what could not be stored is sent again.

use crate::call::{Call, Context, Expect, PutAnswer};
use crate::cas::Cas;
use crate::crc::{self, Sums};
use crate::document::{MAX_SLICES, Phase, STORE_LOST, Slice, SmallPatches, State};
use crate::open::SMALL_PATCH;
use crate::parts::pin;

use super::{At, Cause, Writer};

impl Writer {
    pub(super) fn close(&mut self, cause: Cause, sums: Sums, ctx: Context<'_>) -> Vec<Call> {
        self.request = sums;
        if cause == Cause::Complete && self.doc.length.is_none() {
            self.doc.length = Some(self.pos);
        }
        match self.at {
            At::Filling => {
                self.at = At::Draining(cause);
                self.drained(ctx)
            }
            At::MakingMultipart | At::SavingMultipart(_) | At::Reopening(_) => {
                self.closing = Some(cause);
                Vec::new()
            }
            // It is closing already, or at its end.
            At::Draining(_)
            | At::Slicing(..)
            | At::Closing(_)
            | At::Discarding
            | At::Closed(_)
            | At::Ended(_) => Vec::new(),
        }
    }

    /// Once no part is in flight: the slice, or the swap at once.
    pub(super) fn drained(&mut self, ctx: Context<'_>) -> Vec<Call> {
        let At::Draining(cause) = self.at else {
            return Vec::new();
        };
        if self.in_flight > 0 {
            return Vec::new();
        }
        if cause == Cause::NotVideo {
            let (cas, call) = Cas::begin(
                self.doc.dead("NotVideo", ctx.nonce),
                Expect::Match(self.etag.clone()),
            );
            self.at = At::Closing(cas);
            return vec![call];
        }
        if self.trouble.is_some() || self.pos == self.cut || !self.counts(cause) {
            return self.swap_closed(cause, None, ctx);
        }
        let part = self.doc.grid().part_of(self.cut);
        let old: Vec<Slice> = self
            .doc
            .tail
            .iter()
            .filter(|s| s.part == part)
            .cloned()
            .collect();
        let merge = if old.len() >= MAX_SLICES {
            old
        } else {
            Vec::new()
        };
        let from = merge.first().map_or(self.cut, |slice| slice.from);
        let slice = Slice {
            part,
            epoch: self.doc.epoch,
            from,
            to: self.pos,
        };
        self.at = At::Slicing(cause, slice.clone());
        vec![Call::PutSlice { slice, merge }]
    }

    pub(super) fn sliced(
        &mut self,
        cause: Cause,
        slice: Slice,
        put: &PutAnswer,
        ctx: Context<'_>,
    ) -> Vec<Call> {
        match put {
            PutAnswer::Written(_) => self.swap_closed(cause, Some(slice), ctx),
            PutAnswer::Lost | PutAnswer::Unknown => {
                self.trouble = Some(format!(
                    "store the tail of upload {}: no clear answer",
                    self.doc.id
                ));
                self.swap_closed(cause, None, ctx)
            }
        }
    }

    pub(super) fn swap_closed(
        &mut self,
        cause: Cause,
        slice: Option<Slice>,
        ctx: Context<'_>,
    ) -> Vec<Call> {
        let mut next = if self.lost {
            self.doc.dead(STORE_LOST, ctx.nonce)
        } else if self.gone {
            self.doc.without_parts(ctx.nonce)
        } else {
            self.closed_document(cause, slice, ctx)
        };
        // Only a close that took everything it got may say that all is there.
        if next.is_full() && next.phase == Phase::Closed && cause != Cause::NotVideo {
            next.phase = Phase::Finishing;
        }
        let (cas, call) = Cas::begin(next, Expect::Match(self.etag.clone()));
        self.at = At::Closing(cas);
        vec![call]
    }

    /// Of a body with a checksum all counts, or nothing.
    fn counts(&self, cause: Cause) -> bool {
        !self.doc.unverified || matches!(cause, Cause::End | Cause::Complete)
    }

    /// The document with what is durable now: contiguous parts, then the slice.
    fn closed_document(&self, cause: Cause, slice: Option<Slice>, ctx: Context<'_>) -> State {
        let grid = self.doc.grid();
        let mut next = State {
            phase: Phase::Closed,
            unverified: false,
            nonce: ctx.nonce.into(),
            ..self.doc.clone()
        };
        if cause == Cause::Overflow {
            // Whatever is there: this body was not what it said it was.
            next.complete = Some(false);
        }
        if !self.counts(cause) {
            next.sniffed = self.base_sniffed;
            // A part that was sent, stored or not, may come to be listed.
            return if self.cut > self.doc.offset {
                next.doubting()
            } else {
                next
            };
        }
        let first = grid.part_of(self.doc.offset);
        let run = (first..)
            .take_while(|part| self.stored.contains_key(part))
            .count();
        let parts_to = grid.start(first.saturating_add(u32::try_from(run).unwrap_or(u32::MAX)));
        if run > 0 && parts_to > next.offset {
            let etags = self.stored.range(first..).take(run);
            let etags = etags.map(|(_, etag)| Some(etag.as_str()));
            next.pin = pin(self.doc.pin, first, etags);
            next.offset = parts_to;
            next.spend_tail();
            if let Some(doubted) = next.doubted {
                let counted = self
                    .stored
                    .range(first.max(doubted)..grid.part_of(parts_to));
                next.sure
                    .extend(counted.map(|(part, etag)| (*part, etag.clone())));
            }
        }
        if let Some(slice) = slice {
            if next
                .tail
                .first()
                .is_some_and(|first| first.from == slice.from)
            {
                next.spend_tail();
            }
            next.offset = slice.to;
            next.tail.push(slice);
        }
        (next.crc, next.crc32c) = self.sums_at(next.offset);
        let small = next.offset - self.base_offset < SMALL_PATCH && cause != Cause::Idle;
        if self.untold && small && !next.is_full() {
            let small = next.small.at(ctx.now_ms);
            next.small = SmallPatches {
                count: small.count + 1,
                ..small
            };
        }
        next
    }

    fn sums_at(&self, offset: u64) -> (Option<u64>, Option<u32>) {
        if offset == self.doc.offset {
            return (self.doc.crc, self.doc.crc32c);
        }
        if offset != self.pos {
            return (None, None);
        }
        let (request, len) = (self.request, offset - self.base_offset);
        let crc = self.base_crc.map(|base| crc::join(base, request.crc, len));
        let both = self.base_crc32c.zip(request.crc32c);
        let crc32c = both.map(|(base, crc)| crc::join_crc32c(base, crc, len));
        (crc, crc32c)
    }
}
