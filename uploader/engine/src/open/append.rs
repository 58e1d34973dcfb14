//! Whether a body may be appended to a closed upload, and the document that it is opened with.

use crate::call::Context;
use crate::document::{SmallPatches, State};

use super::{Append, MINUTE_MS, Opened, SMALL_PATCH, SMALL_PER_MINUTE};

impl Append {
    /// The next document, `open` for this body.
    pub(super) fn open(self, doc: Box<State>, ctx: Context<'_>) -> Result<Box<State>, Opened> {
        if self.offset != doc.offset {
            return Err(Opened::WrongOffset(doc));
        }
        let end = self.body.map(|body| self.offset.saturating_add(body));
        let length = match self.length(&doc, end) {
            Ok(length) => length,
            Err(Wrong::Inconsistent) => return Err(Opened::Inconsistent(doc)),
            Err(Wrong::OverLimit(limit)) => return Err(Opened::OverLimit(limit)),
        };
        if end.zip(length).is_some_and(|(end, length)| end > length) {
            // With the length that this request may have told.
            return Err(Opened::TooLong(Box::new(State { length, ..*doc })));
        }
        let limit = doc.limit.filter(|_| length.is_none());
        if let Some((end, limit)) = end.zip(limit)
            && end > limit
        {
            return Err(Opened::OverLimit(limit));
        }
        let clash = |(kind, digest): (&String, &String)| {
            doc.digests.get(kind).is_some_and(|known| known != digest)
        };
        if self.digests.iter().any(clash) {
            return Err(Opened::Inconsistent(doc));
        }
        let mut next = doc.opened(ctx.nonce);
        let ends_it = (end.is_some() && end == length) || self.complete == Some(true);
        if !ends_it {
            next.small = self.small(&doc, ctx)?;
        }
        next.length = length;
        next.unverified = self.verify;
        // Over tus nothing is said of an end: there a full upload is whole. So it is wherever the
        // length was told: clients take an offset of that length for the end, whatever they said.
        next.complete = self.complete.filter(|end| *end || length.is_none());
        next.digests.extend(self.digests);
        Ok(Box::new(next))
    }

    /// The length of the whole after this request: what is known, or what it says.
    fn length(&self, doc: &State, end: Option<u64>) -> Result<Option<u64>, Wrong> {
        // A body that brings the end tells the length with its own.
        let brought = end.filter(|_| self.complete == Some(true));
        let said = [doc.length, self.length, brought];
        let mut lengths = said.into_iter().flatten();
        let Some(length) = lengths.next() else {
            return Ok(None);
        };
        if lengths.any(|other| other != length) || length < doc.offset {
            return Err(Wrong::Inconsistent);
        }
        match doc.limit {
            Some(limit) if length > limit => Err(Wrong::OverLimit(limit)),
            _ => Ok(Some(length)),
        }
    }

    /// The count of small bodies with this one; of a body whose size is not told nobody knows yet.
    fn small(&self, doc: &State, ctx: Context<'_>) -> Result<SmallPatches, Opened> {
        let small = doc.small.at(ctx.now_ms);
        match self.body {
            Some(body) if body >= SMALL_PATCH => Ok(doc.small),
            _ if small.count >= SMALL_PER_MINUTE => {
                let left = MINUTE_MS - ctx.now_ms % MINUTE_MS;
                Err(Opened::TooManySmall(left.div_ceil(1000)))
            }
            Some(_) => Ok(SmallPatches {
                count: small.count + 1,
                ..small
            }),
            None => Ok(small),
        }
    }
}

enum Wrong {
    Inconsistent,
    OverLimit(u64),
}
